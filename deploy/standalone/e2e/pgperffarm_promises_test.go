package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/millrace/millrace/schemas/eventlog"
)

// keyed is the same caller whose requests carry an idempotency key.
func (c *caller) keyed(key string) *caller { return c.with("Idempotency-Key", key) }

func TestUploadRepeatedUnderItsKeyGetsTheFirstAnswerAndHasNoSecondEffect(t *testing.T) {
	covers(t, "POST /run/upload", "GET /machine/user")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		m := lab.newMachine(t)
		owner := lab.browser(t, m.Owner)
		key := Unique("key")
		post := func(door string, body []byte) Answer {
			return send(t, http.MethodPost, door+"/run/upload/", body, "Authorization", m.Secret, "Idempotency-Key", key)
		}
		first := m.uploader(t).keyed(key).do(t, http.MethodPost, "/run/upload/", smallDocument(0).body())
		first.is(t, http.StatusCreated, "")
		for _, door := range append(lab.Ingest(), lab.URL()) {
			again := post(door, smallDocument(0).body())
			again.is(t, http.StatusCreated, "")
			if again.Header.Get("Location") != first.Header.Get("Location") {
				t.Errorf("the repeat is answered with the run %q, the first was %q", again.Header.Get("Location"), first.Header.Get("Location"))
			}
			post(door, smallDocument(1).body()).refuses(t, http.StatusUnprocessableEntity, "Idempotency-Key")
		}
		wantMembers(t, owner.own(t, m.Alias), map[string]any{"count": 1.0})
		other := lab.newMachine(t) // a key counts for one credential
		other.uploader(t).keyed(key).do(t, http.MethodPost, "/run/upload/", smallDocument(1).body()).is(t, http.StatusCreated, "")
		refused := m.uploader(t).keyed(key+"2").do(t, http.MethodPost, "/run/upload/", smallDocument(0).body()).Want(t, http.StatusNotAcceptable)
		m.uploader(t).keyed(key+"2").do(t, http.MethodPost, "/run/upload/", smallDocument(0).body()).is(t, http.StatusNotAcceptable, string(refused.Body))
		for _, bad := range []string{strings.Repeat("k", 256), "tab\there", "ümlaut"} {
			m.uploader(t).keyed(bad).do(t, http.MethodPost, "/run/upload/", smallDocument(5).body()).refuses(t, http.StatusBadRequest, "Idempotency-Key")
		}
	})
}

func TestMachineFormsRepeatedUnderTheirKeyGetTheFirstAnswer(t *testing.T) {
	covers(t, "POST /machine/add", "POST /machine/approve", "POST /machine/edit/:machine_id")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		boss := lab.browser(t, staff)
		alias := Unique("otter")
		keys := map[string]string{}
		twice := func(path, body, text string) {
			t.Helper()
			keys[path] = Unique("key")
			for range 2 {
				boss.keyed(keys[path]).post(t, path, body).is(t, http.StatusCreated, text)
			}
			boss.keyed(keys[path]).post(t, path, strings.Replace(body, "}", ` , "more": 1}`, 1)).refuses(t, http.StatusUnprocessableEntity)
		}
		twice("/machine/add", fmt.Sprintf(`{"alias": %q, "description": "first"}`, alias), "Machine added successfully!")
		twice("/machine/approve", fmt.Sprintf(`{"alias": %q}`, alias), "Machine approved successfully!")
		edit := fmt.Sprintf("/machine/edit/%v", boss.own(t, alias)["machine_id"])
		twice(edit, `{"description": "second"}`, "")
		boss.post(t, edit, `{"description": "third"}`).Want(t, http.StatusCreated)
		boss.keyed(keys[edit]).post(t, edit, `{"description": "second"}`).is(t, http.StatusCreated, "")
		wantMembers(t, boss.own(t, alias), map[string]any{"description": "third"}) // a repeat has no effect of its own
	})
}

func TestSecretThatWasShownIsNotShownAgainToARepeat(t *testing.T) {
	covers(t, "POST /millrace/v1/admin/pgperffarm/machines", "POST /millrace/v1/admin/tokens", "POST /millrace/v1/admin/pgperffarm/users",
		"POST /millrace/v1/admin/pgperffarm/machines/approve", "POST /millrace/v1/admin/tokens/revoke")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		operator, key := lab.operator(t), Unique("key")
		owner, name, alias := Unique("owner"), Unique("token"), Unique("otter")
		lab.operate(t, "/pgperffarm/users", map[string]any{"name": owner})
		for path, body := range map[string]string{
			"/pgperffarm/machines": fmt.Sprintf(`{"alias": %q, "owner": %q}`, alias, owner), "/tokens": fmt.Sprintf(`{"name": %q, "role": "viewer"}`, name),
		} {
			post := func(body string) Answer {
				return operator.keyed(key).do(t, http.MethodPost, "/millrace/v1/admin"+path, []byte(body))
			}
			var first, again map[string]any
			post(body).Want(t, http.StatusCreated).JSON(t, &first)
			post(body).Want(t, http.StatusCreated).JSON(t, &again)
			for _, member := range []string{"secret", "token"} {
				if again[member] != nil {
					t.Errorf("%s shows the %s again", path, member)
				}
				delete(first, member)
			}
			if fmt.Sprint(first) != fmt.Sprint(again) {
				t.Errorf("%s answers %v, and to the repeat %v", path, first, again)
			}
			post(body+" ").refuses(t, http.StatusUnprocessableEntity, "Idempotency-Key")
		}
		lab.operate(t, "/pgperffarm/machines/approve", map[string]any{"alias": alias})
		lab.operate(t, "/tokens/revoke", map[string]any{"name": name})
	})
}

// Whoever has been told 2xx sees the write in the next read, without any header, wherever the write went in.
func TestEveryReadBehindAWriteShowsIt(t *testing.T) {
	covers(t, "POST /machine/add", "POST /machine/approve", "POST /machine/edit/:machine_id", "POST /run/upload", "GET /machine/list", "GET /machine/user",
		"GET /run/:run_id", "GET /benchmark/overview", "GET /benchmark/machines", "GET /benchmark/history/:machine_id", "GET /benchmark/postgres/:machine_id",
		"GET /benchmark/pgbench_trends/:machine_id/:benchmark_config_id",
		"GET /benchmark/pgbench_results_commit/:git_commit/:machine_id/:benchmark_config_id",
		"GET /benchmark/pgbench_results_complete/:pgbench_result_id", "GET /tpch/machines", "GET /tpch/details/:run_id",
		"GET /tpch/trend/:machine_id/:scale_factor", "GET /tpch/trends/:machine_id/:scale_factor", "GET /tpch/runs_commit/:machine_id/:scale_factor/:commit")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		w := &witness{lab: lab, machine: lab.newMachine(t), name: Unique("set")}
		w.config = w.configOf(t, w.upload(t, smallDocument(0)))
		reads := []func(t *testing.T, id uint64){
			w.inRun, w.inResult, w.inOverview, w.inMachines, w.inHistory, w.inSettings, w.inTrend, w.inCommit, w.inList, w.inProfile,
		}
		for n, read := range reads {
			for again := range 2 {
				w.settings++
				id := w.upload(t, smallDocument(1+2*n+again).set("postgres_settings", "name,setting,source\r\nwork_mem,"+w.setting()+",command line\r\n"))
				w.stored++
				read(t, id)
			}
		}
		tpch := []func(t *testing.T, id uint64){w.inTPCHDetails, w.inTPCHMachines, w.inTPCHTrend, w.inTPCHRuns, w.inProfile}
		for n, read := range tpch {
			id := w.upload(t, tpchDocument(minute(100+n), "10", 2, [3]float64{1, 2, 3}))
			w.tpch++
			read(t, id)
		}
		w.forms(t)
	})
}

// witness writes and looks at once whether a read shows it.
type witness struct {
	lab      *Lab
	machine  machine
	config   uint64
	stored   int // pgbench runs beside the first
	tpch     int
	name     string // of this witness's settings, so that each set is new
	settings int
}

func (w *witness) setting() string { return fmt.Sprintf("%s %d", w.name, w.settings) }

// upload goes to one ingest service after the other.
func (w *witness) upload(t *testing.T, d farmDocument) uint64 {
	t.Helper()
	doors := w.lab.Ingest()
	answer := send(t, http.MethodPost, doors[(w.stored+w.tpch)%len(doors)]+"/run/upload/", d.body(), "Authorization", w.machine.Secret).Want(t, http.StatusCreated)
	noteCall(t, http.MethodPost, "/run/upload/")
	var id uint64
	if _, err := fmt.Sscanf(answer.Header.Get("Location"), "/run/%d", &id); err != nil {
		t.Fatal(err)
	}
	return id
}

func (w *witness) get(t *testing.T, format string, args ...any) []map[string]any {
	t.Helper()
	return w.lab.visitor(t).get(t, fmt.Sprintf(format, args...)).rows(t)
}

func (w *witness) configOf(t *testing.T, id uint64) uint64 {
	t.Helper()
	return uint64(list(w.get(t, "/run/%d", id)[0], "pgbench_result")[0].(map[string]any)["benchmark_config_id"].(float64))
}

func (w *witness) inRun(t *testing.T, id uint64) {
	wantMembers(t, w.get(t, "/run/%d", id)[0], map[string]any{"run_id": float64(id)})
}

func (w *witness) inResult(t *testing.T, id uint64) {
	wantMembers(t, w.get(t, "/benchmark/pgbench_results_complete/%d", id<<10+1)[0], map[string]any{"run_id_id": float64(id)})
}

func (w *witness) inOverview(t *testing.T, id uint64) {
	wantMembers(t, w.get(t, "/benchmark/overview")[0], map[string]any{"last_run": float64(id), "last_machine_alias": w.machine.Alias})
}

func (w *witness) inMachines(t *testing.T, _ uint64) {
	for _, row := range w.get(t, "/benchmark/machines") {
		if row["machine_id"] == float64(w.machine.ID) {
			wantMembers(t, row, map[string]any{"count": float64(1 + w.stored)})
			return
		}
	}
	t.Error("/benchmark/machines does not show the machine")
}

func (w *witness) inHistory(t *testing.T, id uint64) {
	wantMembers(t, w.get(t, "/benchmark/history/%d", w.machine.ID)[0], map[string]any{"run_id": float64(id)}) // its settings are new
}

func (w *witness) inSettings(t *testing.T, id uint64) {
	rows := w.get(t, "/benchmark/postgres/%d", w.machine.ID)
	wantMembers(t, rows[len(rows)-1], map[string]any{"min": float64(id), "last_run": float64(id), "value2": w.setting()})
}

func (w *witness) inTrend(t *testing.T, _ uint64) {
	wantMembers(t, w.get(t, "/benchmark/pgbench_trends/%d/%d", w.machine.ID, w.config)[0], map[string]any{"count": float64(1 + w.stored)})
}

func (w *witness) inCommit(t *testing.T, id uint64) {
	rows := w.get(t, "/benchmark/pgbench_results_commit/%s/%d/%d", commitHash(1), w.machine.ID, w.config)
	wantMembers(t, rows[len(rows)-1], map[string]any{"run_id": float64(id)})
}

func (w *witness) inList(t *testing.T, id uint64) {
	for _, row := range w.get(t, "/machine/list") {
		if row["machine_id"] == float64(w.machine.ID) && list(row, "latest")[0] == float64(id) {
			return
		}
	}
	t.Errorf("/machine/list does not show run %d", id)
}

func (w *witness) inProfile(t *testing.T, _ uint64) {
	wantMembers(t, w.lab.browser(t, w.machine.Owner).own(t, w.machine.Alias), map[string]any{"count": float64(1 + w.stored + w.tpch)})
}

func (w *witness) inTPCHDetails(t *testing.T, id uint64) {
	wantMembers(t, w.get(t, "/tpch/details/%d", id)[0], map[string]any{"run_id": float64(id)})
}

func (w *witness) inTPCHMachines(t *testing.T, _ uint64) {
	for _, row := range w.get(t, "/tpch/machines") {
		if row["machine_id"] == float64(w.machine.ID) {
			wantMembers(t, row, map[string]any{"count": float64(w.tpch)})
			return
		}
	}
	t.Error("/tpch/machines does not show the machine")
}

func (w *witness) inTPCHTrend(t *testing.T, _ uint64) {
	for _, spelling := range []string{"trend", "trends"} {
		wantMembers(t, w.get(t, "/tpch/%s/%d/10", spelling, w.machine.ID)[0], map[string]any{"count": float64(w.tpch)})
	}
}

func (w *witness) inTPCHRuns(t *testing.T, id uint64) {
	wantMembers(t, w.get(t, "/tpch/runs_commit/%d/10/%s", w.machine.ID, commitHash(1))[0], map[string]any{"run_id": float64(id)})
}

// forms are the writes other than uploads.
func (w *witness) forms(t *testing.T) {
	t.Helper()
	owner, boss := w.lab.browser(t, w.machine.Owner), w.lab.browser(t, staff)
	for n := range 5 {
		alias := Unique("beaver")
		owner.post(t, "/machine/add", fmt.Sprintf(`{"alias": %q, "description": ""}`, alias)).Want(t, http.StatusCreated)
		id := owner.own(t, alias)["machine_id"]
		boss.post(t, "/machine/approve", fmt.Sprintf(`{"alias": %q}`, alias)).Want(t, http.StatusCreated)
		wantMembers(t, owner.own(t, alias), map[string]any{"approved": true})
		owner.post(t, fmt.Sprintf("/machine/edit/%v", id), fmt.Sprintf(`{"description": "version %d"}`, n)).Want(t, http.StatusCreated)
		listed := w.get(t, "/machine/list")
		wantMembers(t, listed[len(listed)-1], map[string]any{"alias": alias, "description": fmt.Sprintf("version %d", n), "approved": true})
		owner.post(t, fmt.Sprintf("/machine/edit/%d", w.machine.ID), fmt.Sprintf(`{"description": "version %d"}`, n)).Want(t, http.StatusCreated)
		wantMembers(t, w.get(t, "/benchmark/history/%d", w.machine.ID)[0], map[string]any{"description": fmt.Sprintf("version %d", n)})
	}
}

func TestEveryWriteAnswersWithAPositionAndAReadWaitsForIt(t *testing.T) {
	covers(t, "POST /run/upload", "POST /machine/add", "GET /machine/list", "GET /run/:run_id")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		m := lab.newMachine(t)
		upload := m.upload(t, smallDocument(0).body())
		form := lab.browser(t, m.Owner).post(t, "/machine/add", fmt.Sprintf(`{"alias": %q, "description": ""}`, Unique("otter")))
		for topic, answer := range map[string]Answer{eventlog.Runs: upload, eventlog.Registry: form} {
			position, err := eventlog.ParsePosition(answer.Header.Get(eventlog.PositionHeader))
			if err != nil || len(position.Offsets) != 1 || position.Offsets[eventlog.Partition{Topic: topic}] < 0 {
				t.Errorf("%s: position %q, %v; want the offset in topic %s", answer.Asked, answer.Header.Get(eventlog.PositionHeader), err, topic)
			}
			named := lab.visitor(t).with(eventlog.PositionHeader, answer.Header.Get(eventlog.PositionHeader))
			named.get(t, "/machine/list").Want(t, http.StatusOK)
		}
		lab.visitor(t).with(eventlog.PositionHeader, upload.Header.Get(eventlog.PositionHeader)).get(t, upload.Header.Get("Location")).Want(t, http.StatusOK)
		lab.visitor(t).with(eventlog.PositionHeader, "nonsense").get(t, "/machine/list").refuses(t, http.StatusBadRequest)
	})
}
