package e2e

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/schemas/clickhouse"
)

// The tests of this file are named after the weaknesses of upstream (contract section 8), of which each is a thing that
// Millrace does right.

func TestW1SecretsAreRandomWhateverTheRequestSays(t *testing.T) {
	covers(t, "POST /machine/add", "GET /machine/user")
	secrets := map[string]bool{}
	for range 2 { // the same first request to two farms
		lab := start(t, "standalone")
		jane := lab.browser(t, "jdoe")
		jane.post(t, "/machine/add", `{"alias": "otter", "description": "lab box"}`).Want(t, http.StatusCreated)
		secret := jane.own(t, "otter")["machine_secret"].(string)
		if len(secret) != 32 || strings.Trim(secret, "0123456789abcdef") != "" || secrets[secret] {
			t.Errorf("the secret is %q, want 32 hexadecimal digits that no other farm gave", secret)
		}
		secrets[secret] = true
	}
}

func TestW2SecretsRotateAndCanBeRevoked(t *testing.T) {
	covers(t, "POST /run/upload", "POST /millrace/v1/admin/pgperffarm/machines/rotate", "POST /millrace/v1/admin/pgperffarm/machines/revoke")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		m := lab.newMachine(t)
		owner := lab.browser(t, m.Owner)
		m.store(t, smallDocument(0))
		rotated := m
		lab.operate(t, "/pgperffarm/machines/rotate", map[string]any{"alias": m.Alias}).JSON(t, &rotated.Machine)
		if shown := owner.own(t, m.Alias)["machine_secret"]; rotated.Secret == m.Secret || shown != rotated.Secret {
			t.Errorf("after the rotation the owner reads %v, the operator %q, and before it was %q", shown, rotated.Secret, m.Secret)
		}
		m.upload(t, smallDocument(1).body()).refuses(t, http.StatusNotAcceptable, "secret")
		rotated.store(t, smallDocument(1))
		lab.operate(t, "/pgperffarm/machines/revoke", map[string]any{"alias": m.Alias})
		rotated.upload(t, smallDocument(2).body()).refuses(t, http.StatusNotAcceptable, "secret")
		if shown := owner.own(t, m.Alias)["machine_secret"]; shown != "" {
			t.Errorf("the owner still reads the revoked secret %v", shown)
		}
	})
}

func TestW2FailedSecretsAreSlowedDownByAddressAndGoodOnesAreNot(t *testing.T) {
	covers(t, "POST /run/upload")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		known, unknown := lab.newMachine(t), lab.newMachine(t)
		guesser, neighbour := lab.elsewhere(t), lab.elsewhere(t)
		upload := func(by *caller, m machine, n int) Answer {
			return by.as(m).do(t, http.MethodPost, "/run/upload", smallDocument(n).body())
		}
		upload(guesser, known, 0).is(t, http.StatusCreated, "")
		var slowed Answer
		for n := range 60 {
			slowed = guesser.with("Authorization", fmt.Sprintf("%032x", n)).do(t, http.MethodPost, "/run/upload", smallDocument(0).body())
			if slowed.Status != http.StatusNotAcceptable {
				break
			}
		}
		slowed.refuses(t, http.StatusTooManyRequests, "too many")
		if slowed.Header.Get("Retry-After") == "" {
			t.Error("the refusal has no Retry-After")
		}
		upload(guesser, known, 1).is(t, http.StatusCreated, "")     // its secret was good before
		upload(neighbour, unknown, 1).is(t, http.StatusCreated, "") // another address
	})
}

// openRedirects are targets outside of this site.
var openRedirects = []string{
	"https://evil.example/", "//evil.example/", `/\evil.example`, `\\evil.example/`, "javascript:alert(1)", "evil.example", "///evil.example",
	"/\t/evil.example", "/\n/evil.example", "http://127.0.0.1@evil.example/", "http:evil.example", "https:/evil.example", "data:text/html,x", "%2F%2Fevil.example",
}

func TestW3LoginLeadsToNoOtherSite(t *testing.T) {
	covers(t, "GET /user/community_login", "GET /user/auth_receive")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		for _, next := range openRedirects {
			toPgweb := lab.visitor(t).get(t, "/user/community_login?next="+url.QueryEscape(next)).location(t)
			jane := person(Unique("jane"))
			jane.Data = toPgweb.Query().Get("d")
			if to := lab.visitor(t).get(t, callback(t, login, jane)).location(t).String(); to != "/ui" {
				t.Errorf("the login with the target %q leads to %q", next, to)
			}
		}
		forged := person(Unique("jane"))
		forged.Data = "AAAAAAAAAAAAAAAAAAAAAA$" + strings.Repeat("A", 64)
		if to := lab.visitor(t).get(t, callback(t, login, forged)).location(t).String(); to != "/ui" {
			t.Errorf("a forged target leads to %q", to)
		}
		toPgweb := lab.visitor(t).get(t, "/user/community_login?next="+url.QueryEscape("/run/7?a=b#c")).location(t)
		blob := toPgweb.Query().Get("d")
		if toPgweb.Scheme+"://"+toPgweb.Host+toPgweb.Path != login.LoginURL || strings.Trim(blob, pgwebAlphabet) != "" {
			t.Errorf("the visitor is sent to %s, want pgweb with a blob that it passes on", toPgweb)
		}
		jane := person(Unique("jane"))
		jane.Data = blob
		if to := lab.visitor(t).get(t, callback(t, login, jane)).location(t).String(); to != "/run/7?a=b#c" {
			t.Errorf("the login leads to %q, want the page that asked for it", to)
		}
	})
}

// pgwebAlphabet are the characters that pgweb passes on.
const pgwebAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~=$"

func TestW4CallbackOfVersion2CannotBeReplayedNorChanged(t *testing.T) {
	covers(t, "GET /user/auth_receive")
	pgweb := newCommunity(t, 2, person("jdoe"))
	lab := startWith(t, pgweb.settings()...)
	path := callback(t, pgweb.registration, person("jdoe"))
	lab.visitor(t).get(t, path).Want(t, http.StatusFound)
	lab.visitor(t).get(t, path).says(t, http.StatusBadRequest, "used before")
	at, err := url.Parse(path)
	if err != nil {
		t.Fatal(err)
	}
	// Version 2 is not authenticated: another first block of plain text gives the same user once more.
	query := at.Query()
	iv := []byte(query.Get("i"))
	iv[3] ^= 1
	query.Set("i", string(iv))
	lab.visitor(t).get(t, "/user/auth_receive/?"+query.Encode()).says(t, http.StatusBadRequest)
	query = at.Query()
	query.Set("more", "x")
	lab.visitor(t).get(t, "/user/auth_receive/?"+query.Encode()).says(t, http.StatusBadRequest, "used before")
}

func TestW5AnswersDiscloseNothingOfTheServerAndRepeatNoHost(t *testing.T) {
	covers(t, "GET /run/:run_id", "POST /run/upload", "GET /user/auth_receive", "GET /machine/user")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		evil := lab.visitor(t).with("Host", "evil.example").with("X-Forwarded-Host", "evil.example")
		for _, answer := range []Answer{
			evil.get(t, "/run/x"), evil.get(t, "/nothing"), evil.do(t, http.MethodPost, "/run/upload", []byte("{")), evil.get(t, "/machine/user"),
			evil.get(t, "/user/auth_receive?n=!&d=!&t=!"), evil.get(t, "/user/community_login?next=/x"), evil.get(t, "/user/logout"),
		} {
			whole := string(answer.Body) + fmt.Sprint(answer.Header)
			for _, leak := range []string{"evil.example", ".go:", "goroutine", "/tmp/", "127.0.0.1:9", "clickhouse", "kafka", "MILLRACE_", "SELECT "} {
				if strings.Contains(whole, leak) {
					t.Errorf("%s: %d %s discloses %q", answer.Asked, answer.Status, whole, leak)
				}
			}
			if answer.Status >= http.StatusInternalServerError {
				t.Errorf("%s: %d", answer.Asked, answer.Status)
			}
		}
	})
}

func TestW6StateDoesNotChangeByGET(t *testing.T) {
	covers(t, "POST /machine/add", "POST /machine/approve", "POST /machine/edit/:machine_id")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		boss := lab.browser(t, staff)
		alias := Unique("otter")
		boss.post(t, "/machine/add", fmt.Sprintf(`{"alias": %q, "description": "before"}`, alias)).Want(t, http.StatusCreated)
		id := boss.own(t, alias)["machine_id"]
		for _, path := range []string{"/machine/add", "/machine/approve", fmt.Sprintf("/machine/edit/%v", id), "/run/upload"} {
			body := fmt.Appendf(nil, `{"alias": %q, "description": "after"}`, alias)
			answer := boss.do(t, http.MethodGet, path, body)
			answer.refuses(t, http.StatusMethodNotAllowed)
		}
		wantMembers(t, boss.own(t, alias), map[string]any{"description": "before", "approved": false})
		boss.post(t, "/machine/approve", fmt.Sprintf(`{"alias": %q}`, alias)).Want(t, http.StatusCreated)
		boss.post(t, fmt.Sprintf("/machine/edit/%v", id), `{"description": "after"}`).Want(t, http.StatusCreated)
		wantMembers(t, boss.own(t, alias), map[string]any{"description": "after", "approved": true})
	})
}

func TestW7AddressesAreShownToTheirOwnersAndToStaffOnly(t *testing.T) {
	covers(t, "GET /benchmark/history/:machine_id", "GET /benchmark/pgbench_trends/:machine_id/:benchmark_config_id")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		r := newRun(t, lab)
		address := r.machine.Owner + "@example.org"
		seen := map[string]*caller{
			"the owner": lab.browser(t, r.machine.Owner), "staff": lab.browser(t, staff), "a stranger": lab.browser(t, Unique("john")),
			"nobody": lab.visitor(t), "the machine": lab.visitor(t).as(r.machine), "a session that is none": lab.visitor(t).with("Cookie", "sessionid=x"),
		}
		for _, path := range []string{"/benchmark/history/:machine_id", "/benchmark/pgbench_trends/:machine_id/:benchmark_config_id"} {
			for name, by := range seen {
				email, there := by.get(t, r.filled(path)).rows(t)[0]["email"]
				want := any(nil)
				if name == "the owner" || name == "staff" {
					want = address
				}
				if !there || email != want {
					t.Errorf("%s shows %s the address %v, want %v", path, name, email, want)
				}
			}
		}
		for _, path := range []string{
			"/benchmark/overview", "/benchmark/machines", "/machine/list", "/tpch/machines", r.filled("/run/:run_id"),
			r.filled("/benchmark/pgbench_results_complete/:pgbench_result_id"), r.filled("/benchmark/postgres/:machine_id"),
			r.filled("/tpch/trend/:machine_id/:scale_factor"),
		} {
			if body := lab.visitor(t).get(t, path).Body; strings.Contains(string(body), "@example.org") {
				t.Errorf("%s shows an address: %.300s", path, body)
			}
		}
	})
}

func TestW8BranchesAndCommitsThatAreNotPlainAreRefused(t *testing.T) {
	covers(t, "POST /run/upload")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		m := lab.newMachine(t)
		for _, name := range []string{"<script>alert(1)</script>", "a b", `x"onload=`, "x'y", "a&b", "", "a\u202eb", "a\tb", "../x", "`x`"} {
			m.upload(t, smallDocument(0).set("git.branch", name).body()).refuses(t, http.StatusNotAcceptable, "git.branch")
		}
		for _, name := range []string{"<b>", "a/b", "", "a b"} {
			m.upload(t, smallDocument(0).set("git.commit", name).body()).refuses(t, http.StatusNotAcceptable, "git.commit")
		}
		m.store(t, smallDocument(0).set("git.branch", "feature/größer-1.0_x+y"))
	})
}

func TestW9SessionIsKnownToTheNextRequestAtEveryDoor(t *testing.T) {
	covers(t, "GET /user/auth_receive", "GET /machine/user", "POST /machine/add")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		jane := lab.browser(t, Unique("jane"))
		jane.get(t, "/machine/user").is(t, http.StatusOK, "[]")
		for _, door := range lab.Ingest() {
			body := fmt.Appendf(nil, `{"alias": %q, "description": ""}`, Unique("otter"))
			send(t, http.MethodPost, door+"/machine/add", body, "Cookie", jane.header.Get("Cookie"), "X-CSRFToken", jane.header.Get("X-CSRFToken")).
				is(t, http.StatusCreated, "Machine added successfully!")
		}
		jane.post(t, "/machine/add", `{}`).refuses(t, http.StatusBadRequest)
		if rows := jane.get(t, "/machine/user").rows(t); len(rows) != len(lab.Ingest()) {
			t.Errorf("jane has %d machines, want one of each door", len(rows))
		}
	})
}

func TestW10NumbersThatMeanNothingAreRefusedAndAnswersAreAlwaysJSON(t *testing.T) {
	covers(t, "POST /run/upload", "GET /benchmark/pgbench_trends/:machine_id/:benchmark_config_id")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		m := lab.newMachine(t)
		for _, member := range []string{"tps", "latency", "init"} {
			for _, value := range []any{-1.5, "-1", "NaN", "Infinity", "-inf", "1e999", json.Number("1e999"), "fast", "", nil, []any{}, true} {
				m.upload(t, smallDocument(0).set("pgbench.0.iterations.0."+member, value).body()).refuses(t, http.StatusNotAcceptable, member)
			}
		}
		m.upload(t, pgbenchDocument(minute(0), usualConfig, sample{math.MaxFloat64, 1}).body()).refuses(t, http.StatusNotAcceptable, "tps", "1e+150")
		id := m.store(t, pgbenchDocument(minute(0), usualConfig, sample{1e150, 0}, sample{1e150, 5e-324}))
		config := lab.resultRow(t, id, 1)["benchmark_config"].([]any)[0].(map[string]any)["pgbench_benchmark_id"]
		row := lab.visitor(t).get(t, fmt.Sprintf("/benchmark/pgbench_trends/%d/%v", m.ID, config)).rows(t)[0]
		wantMembers(t, row, map[string]any{"avgtps": 1e150, "stdtps": 0.0, "minlat": 0.0, "maxlat": 5e-324})
	})
}

func TestW11BodyOverTheLimitIs413NamingTheLimitAndTheLimitIsASetting(t *testing.T) {
	covers(t, "POST /run/upload")
	lab := startWith(t, "MILLRACE_INGEST_UPLOAD_BYTES=10000")
	m := lab.newMachine(t)
	m.upload(t, longLog(smallDocument(0), 500).body()).refuses(t, http.StatusRequestEntityTooLarge, "10000")
	packed := m.uploader(t).with("Content-Encoding", "gzip")
	packed.do(t, http.MethodPost, "/run/upload", gzipped(t, longLog(smallDocument(0), 500).body())).refuses(t, http.StatusRequestEntityTooLarge, "10000")
	m.store(t, smallDocument(0))
}

func TestW12CountersOver32BitsAreKeptToTheLastBit(t *testing.T) {
	covers(t, "POST /run/upload", "GET /benchmark/pgbench_results_complete/:pgbench_result_id")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		d := smallDocument(0)
		d["pgbench_log_aggregate"] = []any{}
		d.addLog(usualConfig, 0, "", "1625223600 4294967297 9223372036854775807 9223372036854775806 4294967298 4294967299\n")
		d.set("pgbench.0.iterations.0.pg_stat_statements", []any{map[string]any{
			"query": "SELECT 1", "queryid": json.Number("9223372036854775807"), "rows": json.Number("9007199254740993"), "wal_bytes": json.Number("9223372036854775807"),
		}})
		d.set("pgbench.0.iterations.0.collectd", map[string]any{"h": map[string]any{"contextswitch": map[string]any{
			"contextswitch-2021-07-02": []any{map[string]any{"epoch": "1625223600", "value": "9007199254740993"}},
		}}})
		m := lab.newMachine(t)
		body := string(lab.visitor(t).get(t, fmt.Sprintf("/benchmark/pgbench_results_complete/%d", m.store(t, d)<<10+1)).Want(t, http.StatusOK).Body)
		for _, exact := range []string{
			`"num_transactions":4294967297,"sum_latency":9223372036854775807,"sum_latency_2":9223372036854775806,"min_latency":4294967298,"max_latency":4294967299`,
			`"queryid":"9223372036854775807"`, `"rows":9007199254740993`, `"wal_bytes":9223372036854775807`, `"contextswitch":9007199254740993`,
		} {
			if !strings.Contains(body, exact) {
				t.Errorf("the result has no %s: %s", exact, body)
			}
		}
	})
}

func TestW13MachineThatCannotTellEverythingMayUpload(t *testing.T) {
	covers(t, "POST /run/upload", "GET /run/:run_id")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		m := lab.newMachine(t)
		row := lab.runRow(t, m.store(t, smallDocument(0).set("system.cpu.information", map[string]any{"brand_raw": Unique("CPU"), "count": 16})))
		wantMembers(t, row, map[string]any{"hardware_info_id__hz": 0.0, "hardware_info_id__cpu_cores": 16.0})
		row = lab.runRow(t, m.store(t, smallDocument(1).set("sysctl_log", "{}")))
		wantMembers(t, row, map[string]any{"hardware_info_id__sysctl": "known sysctl info not found"})
		partial := map[string]any{"h": map[string]any{"memory": map[string]any{
			"memory-free-2021-07-02": []any{map[string]any{"epoch": "1625223600", "value": "1"}},
		}}}
		result := lab.resultRow(t, m.store(t, smallDocument(2).set("pgbench.0.iterations.0.collectd", partial)), 1)
		if rows := result["collectd"].(map[string]any)["memory"].([]any); len(rows) != 0 {
			t.Errorf("an incomplete row of collectd is shown: %v", rows)
		}
	})
}

func TestW14RefusalSaysWhyHoweverLongTheReason(t *testing.T) {
	covers(t, "POST /run/upload")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		m := lab.newMachine(t)
		m.upload(t, smallDocument(0).set("git.branch", strings.Repeat("ä", 600)).body()).refuses(t, http.StatusNotAcceptable, "git.branch", "100")
		m.upload(t, smallDocument(0).set("meta.benchmark", strings.Repeat("x", 100_000)).body()).refuses(t, http.StatusNotAcceptable, "meta.benchmark")
		m.store(t, smallDocument(0))
	})
}

func TestW15MachinesThatShowTheSameNewValuesAtTheSameMomentAllSucceed(t *testing.T) {
	covers(t, "POST /run/upload", "GET /run/:run_id")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		fresh := Unique("new")
		d := smallDocument(0).set("git.remote", "https://example.org/"+fresh+".git").set("git.branch", fresh).
			set("compiler", "PostgreSQL 15devel, compiled by "+fresh+", 64-bit").set("system.cpu.information.brand_raw", fresh).
			set("pgbench.0.iterations.0.statement_latencies", "\n 0.5 SELECT '"+fresh+"';\n").set("postgres_settings", "name,setting,source\r\nwork_mem,"+fresh+",command line\r\n")
		machines := make([]machine, 8)
		for i := range machines {
			machines[i] = lab.newMachine(t)
		}
		ids := make([]string, len(machines))
		var wait sync.WaitGroup
		for i, m := range machines {
			wait.Go(func() {
				doors := lab.Ingest()
				answer, err := try(t.Context(), http.MethodPost, doors[i%len(doors)]+"/run/upload/", d.body(), "Authorization", m.Secret)
				if err != nil || answer.Status != http.StatusCreated {
					t.Errorf("machine %d: %v, %d %s", i, err, answer.Status, answer.Body)
				}
				ids[i] = strings.TrimPrefix(answer.Header.Get("Location"), "/run/")
			})
		}
		wait.Wait()
		numbers := map[string]bool{}
		for _, id := range ids {
			row := lab.visitor(t).get(t, "/run/"+id).rows(t)[0]
			wantMembers(t, row, map[string]any{"git_branch_id__name": fresh, "compiler_id__compiler": fresh, "hardware_info_id__cpu_brand": fresh})
			numbers[fmt.Sprint(row["postgres_info_id"])] = true
		}
		if len(numbers) != 1 {
			t.Errorf("the same settings have the ids %v", numbers)
		}
		machines[0].store(t, d.set("run_start_time", minute(1).Format(time.RFC3339)))
	})
}

func TestW16LogsBelongToTheirIterationAndClientCountsAreASet(t *testing.T) {
	covers(t, "POST /run/upload", "GET /benchmark/pgbench_results_complete/:pgbench_result_id")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		d := pgbenchDocument(minute(0), usualConfig, sample{1, 1}, sample{2, 2}, sample{3, 3}).set("pgbench.0.clients", []any{8, 8, 8})
		d["pgbench_log_aggregate"] = []any{}
		for iteration := range 3 {
			d.addLog(usualConfig, iteration, "", fmt.Sprintf("1625223600 %d 1 1 1 1\n", 100+iteration))
			d.addLog(usualConfig, iteration, ".77", fmt.Sprintf("1625223600 %d 1 1 1 1\n", 200+iteration))
		}
		d.addLog(pgbenchConfig{clients: 99, scale: 1, duration: 1}, 0, "", "1625223600 1 1 1 1 1\n") // of no result
		d.set("pgbench.0.iterations.1.statement_latencies", "\n 1.5 SELECT 1.5 AS x;\n\n 0.25 COMMIT;\n")
		m := lab.newMachine(t)
		id := m.store(t, d)
		if results := list(lab.runRow(t, id), "pgbench_result"); len(results) != 3 {
			t.Fatalf("%d results are stored, want 3", len(results))
		}
		for iteration := range 3 {
			row := lab.resultRow(t, id, iteration+1)
			var transactions []float64
			for _, line := range list(row, "pgbench_log") {
				transactions = append(transactions, line.(map[string]any)["num_transactions"].(float64))
			}
			slices.Sort(transactions)
			if want := []float64{float64(100 + iteration), float64(200 + iteration)}; !slices.Equal(transactions, want) {
				t.Errorf("iteration %d has log lines with %v transactions, want %v", iteration, transactions, want)
			}
		}
		statements := list(lab.resultRow(t, id, 2), "pgbench_run_statement")
		texts := fmt.Sprint(statements)
		if len(statements) != 2 || !strings.Contains(texts, "SELECT 1.5 AS x;") || !strings.Contains(texts, "COMMIT;") {
			t.Errorf("the statements are %v, want both, whole", statements)
		}
	})
}

func TestW17MetricNamesMatchWhole(t *testing.T) {
	covers(t, "GET /benchmark/pgbench_results_complete/:pgbench_result_id")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		files := map[string]any{}
		for i, name := range vmemMetrics() {
			files[name+"-2021-07-02"] = []any{map[string]any{"epoch": "1625223600", "value": fmt.Sprint(1000 + i)}}
		}
		d := smallDocument(0).set("pgbench.0.iterations.0.collectd", map[string]any{"h": map[string]any{"vmem": files}})
		row := lab.resultRow(t, lab.newMachine(t).store(t, d), 1)["collectd"].(map[string]any)["vmem"].([]any)[0].(map[string]any)
		for i, name := range vmemMetrics() {
			if column := strings.ReplaceAll(name, "-", "_"); row[column] != float64(1000+i) {
				t.Errorf("%s is %v, want %d", column, row[column], 1000+i)
			}
		}
	})
}

func TestW18MomentaryFrequencyDoesNotFragmentTheHistory(t *testing.T) {
	covers(t, "GET /benchmark/history/:machine_id")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		m := lab.newMachine(t)
		for n := range 5 {
			m.store(t, smallDocument(n).set("system.cpu.information.hz_actual", []any{3_000_000_000 + n, 0}))
		}
		rows := lab.visitor(t).get(t, fmt.Sprintf("/benchmark/history/%d", m.ID)).rows(t)
		if len(rows) != 1 {
			t.Fatalf("the history has %d rows, want one", len(rows))
		}
		wantMembers(t, rows[0], map[string]any{"count": 5.0})
	})
}

func TestW19OwnerWhoNeverOpenedAPageMayUpload(t *testing.T) {
	covers(t, "POST /run/upload")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		ghost := Unique("ghost")
		lab.operate(t, "/pgperffarm/users", map[string]any{"name": ghost})
		m := lab.machineOf(t, ghost)
		m.store(t, smallDocument(0))
		m.store(t, tpchDocument(minute(1), "1", 2, [3]float64{1, 2, 3}))
	})
}

func TestW20StatementsThatTheClientDidNotFindAreNone(t *testing.T) {
	covers(t, "POST /run/upload", "GET /benchmark/pgbench_results_complete/:pgbench_result_id")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		m := lab.newMachine(t)
		for n, value := range []any{-1, "no newline in it", "\n\n"} {
			id := m.store(t, smallDocument(n).set("pgbench.0.iterations.0.statement_latencies", value).set("pgbench.0.iterations.0.mode", -1))
			row := lab.resultRow(t, id, 1)
			if rows := list(row, "pgbench_run_statement"); len(rows) != 0 || row["mode"] != "" {
				t.Errorf("statement_latencies %v gives the statements %v and the mode %v", value, rows, row["mode"])
			}
		}
	})
}

// engineCounter reads a counter of the lab's ClickHouse. Where it cannot be reached the test is skipped.
func (l *Lab) engineCounter(t *testing.T, event string) func() uint64 {
	t.Helper()
	address := l.doors().clickhouse
	if address == "" {
		t.Skipf("the ClickHouse of %s cannot be asked", l.Kind)
	}
	db, err := clickhouse.Open(clickhouse.Config{URL: address, Connections: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return func() (value uint64) {
		row := db.QueryRow(t.Context(), "SELECT sum(value) FROM system.events WHERE event = ?", event)
		if err := row.Scan(&value); err != nil {
			t.Fatal(err)
		}
		return value
	}
}

// queriesOf gives how many queries ClickHouse answers for a path at the least: others ask it too now and then, so several
// paths of the same kind are tried.
func queriesOf(t *testing.T, visitor *caller, selects func() uint64, paths ...string) uint64 {
	t.Helper()
	least := uint64(math.MaxUint64)
	for _, path := range paths {
		before := selects()
		visitor.get(t, path).Want(t, http.StatusOK)
		least = min(least, selects()-before-1) // one is the counter's own
	}
	return least
}

func TestW21QueriesDoNotGrowWithMachinesAndResults(t *testing.T) {
	covers(t, "GET /machine/list", "GET /machine/user", "GET /run/:run_id", "GET /benchmark/pgbench_results_complete/:pgbench_result_id")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		selects := lab.engineCounter(t, "SelectQuery")
		m := lab.newMachine(t)
		var few, many, fewResults, manyResults []string
		for n := range 6 {
			small := m.store(t, smallDocument(n))
			large := m.store(t, pgbenchDocument(minute(100+n), usualConfig, slices.Repeat([]sample{{1, 1}}, 200)...))
			few, many = append(few, fmt.Sprintf("/run/%d", small)), append(many, fmt.Sprintf("/run/%d", large))
			fewResults = append(fewResults, fmt.Sprintf("/benchmark/pgbench_results_complete/%d", small<<10+1))
			manyResults = append(manyResults, fmt.Sprintf("/benchmark/pgbench_results_complete/%d", large<<10+1))
		}
		visitor := lab.visitor(t)
		visitor.get(t, "/benchmark/machines") // everything is projected now
		if a, b := queriesOf(t, visitor, selects, few...), queriesOf(t, visitor, selects, many...); a != b || a == 0 {
			t.Errorf("a run of one result takes %d queries, one of 200 takes %d", a, b)
		}
		if a, b := queriesOf(t, visitor, selects, fewResults...), queriesOf(t, visitor, selects, manyResults...); a != b || a == 0 {
			t.Errorf("a result takes %d queries, one among 200 takes %d", a, b)
		}
		lists := slices.Repeat([]string{"/machine/list"}, 6)
		if n := queriesOf(t, visitor, selects, lists...); n != 0 {
			t.Errorf("the list of machines takes %d queries, want none", n)
		}
		own := slices.Repeat([]string{"/machine/user"}, 6)
		if n := queriesOf(t, lab.browser(t, m.Owner), selects, own...); n != 0 {
			t.Errorf("the profile page takes %d queries, want none", n)
		}
	})
}

func TestW22SettingsHistoryDoesNotGrowWithThePairsOfRuns(t *testing.T) {
	covers(t, "GET /benchmark/postgres/:machine_id")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		selects := lab.engineCounter(t, "SelectQuery")
		name := Unique("set") // the sets are numbered in the order in which these runs show them
		path := func(runs int) string {
			m := lab.newMachine(t)
			for n := range runs {
				m.store(t, smallDocument(n).set("postgres_settings", fmt.Sprintf("name,setting,source\r\nwork_mem,%s %d,command line\r\n", name, n%10)))
			}
			return fmt.Sprintf("/benchmark/postgres/%d", m.ID)
		}
		var few, many []string
		for range 6 {
			few, many = append(few, path(2)), append(many, path(20))
		}
		lab.visitor(t).get(t, "/benchmark/machines") // everything is projected now
		if a, b := queriesOf(t, lab.visitor(t), selects, few...), queriesOf(t, lab.visitor(t), selects, many...); a != b || a == 0 {
			t.Errorf("the settings of 2 runs take %d queries, those of 20 runs %d", a, b)
		}
		if rows := lab.visitor(t).get(t, many[0]).rows(t); len(rows) != 9 {
			t.Errorf("ten settings one after the other are %d changes, want 9", len(rows))
		}
	})
}

func TestW23RepeatedReadDoesNoWorkAndAnUploadIsWrittenInAFewInserts(t *testing.T) {
	covers(t, "GET /benchmark/pgbench_trends/:machine_id/:benchmark_config_id",
		"GET /benchmark/pgbench_results_commit/:git_commit/:machine_id/:benchmark_config_id", "POST /run/upload")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		selects, inserts := lab.engineCounter(t, "SelectQuery"), lab.engineCounter(t, "InsertQuery")
		r := newRun(t, lab)
		visitor := lab.visitor(t)
		for _, pattern := range []string{
			"/benchmark/pgbench_trends/:machine_id/:benchmark_config_id", "/benchmark/history/:machine_id",
			"/benchmark/pgbench_results_commit/:git_commit/:machine_id/:benchmark_config_id", "/benchmark/machines", "/benchmark/overview",
		} {
			first := visitor.get(t, r.filled(pattern)).Want(t, http.StatusOK)
			again := slices.Repeat([]string{r.filled(pattern)}, 4)
			if n := queriesOf(t, visitor, selects, again...); n != 0 {
				t.Errorf("%s takes %d queries when it is asked for again", pattern, n)
			}
			visitor.get(t, r.filled(pattern)).is(t, http.StatusOK, string(first.Body))
		}
		least := uint64(math.MaxUint64)
		for n := range 4 {
			before := inserts()
			id := r.machine.store(t, longLog(smallDocument(10+n), 5_000))
			lab.runRow(t, id) // waits until it is written
			least = min(least, inserts()-before)
		}
		if least > 20 {
			t.Errorf("an upload of 5000 log lines takes %d inserts, want at most one for each table", least)
		}
	})
}
