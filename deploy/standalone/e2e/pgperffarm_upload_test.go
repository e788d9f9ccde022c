package e2e

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

func gzipped(t testing.TB, body []byte) []byte {
	t.Helper()
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}

// runRow reads /run/ID.
func (l *Lab) runRow(t testing.TB, id uint64) map[string]any {
	t.Helper()
	return l.visitor(t).get(t, fmt.Sprintf("/run/%d", id)).rows(t)[0]
}

// resultRow reads a run's nth result, from 1, with everything measured.
func (l *Lab) resultRow(t testing.TB, id uint64, n int) map[string]any {
	t.Helper()
	return l.visitor(t).get(t, fmt.Sprintf("/benchmark/pgbench_results_complete/%d", id<<10+uint64(n))).rows(t)[0]
}

func list(row map[string]any, key string) []any {
	elements, _ := row[key].([]any)
	return elements
}

// longLog makes a document so large that it travels by the blob store.
func longLog(d farmDocument, seconds int) farmDocument {
	var lines strings.Builder
	for second := range seconds {
		fmt.Fprintf(&lines, "%d %d 7910100 78309990000 610 15020\n", firstStart.Unix()+int64(second), 700+second%97)
	}
	d["pgbench_log_aggregate"] = []any{}
	d.addLog(usualConfig, 0, "", lines.String())
	return d
}

func TestEveryFormOfUploadIsStoredAndReadBack(t *testing.T) {
	covers(t, "POST /run/upload", "GET /run/:run_id", "GET /benchmark/pgbench_results_complete/:pgbench_result_id", "GET /tpch/details/:run_id")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		m := lab.newMachine(t)
		t.Run("inline", func(t *testing.T) {
			row := lab.runRow(t, m.store(t, smallDocument(1)))
			wantMembers(t, row, map[string]any{"machine_id": float64(m.ID), "git_commit": commitHash(1), "machine_id__machine_type": "aarch64"})
			if len(list(row, "pgbench_result")) != 1 {
				t.Errorf("the run has the results %v", row["pgbench_result"])
			}
		})
		t.Run("by the blob store", func(t *testing.T) {
			id := m.store(t, longLog(smallDocument(2), 20_000))
			lines := list(lab.resultRow(t, id, 1), "pgbench_log")
			if len(lines) != 20_000 {
				t.Fatalf("%d lines of 20000 are read back", len(lines))
			}
			for n, line := range lines {
				if got := line.(map[string]any)["num_transactions"]; got != float64(700+n%97) {
					t.Fatalf("line %d has %v transactions", n, got)
				}
			}
		})
		t.Run("packed by gzip", func(t *testing.T) {
			packed := m.uploader(t).with("Content-Encoding", "gzip")
			packed.do(t, http.MethodPost, "/run/upload/", gzipped(t, smallDocument(3).body())).is(t, http.StatusCreated, "")
			large := gzipped(t, longLog(smallDocument(4), 5_000).body())
			packed.with("Content-Encoding", "GZIP").do(t, http.MethodPost, "/run/upload", large).is(t, http.StatusCreated, "")
			m.upload(t, smallDocument(3).body()).says(t, http.StatusNotAcceptable, "run_start_time") // the same document unpacked
		})
		t.Run("in chunks", func(t *testing.T) {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, lab.URL()+"/run/upload/", onlyReader{bytes.NewReader(smallDocument(5).body())})
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Authorization", m.Secret)
			response, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if response.StatusCode != http.StatusCreated {
				t.Errorf("status %d, want 201", response.StatusCode)
			}
		})
		t.Run("of generation B, which does not name the benchmark", func(t *testing.T) {
			m.store(t, smallDocument(6).drop("meta"))
			m.store(t, smallDocument(7).drop("meta.benchmark"))
		})
		t.Run("of generation C, a TPC-H run", func(t *testing.T) {
			id := m.store(t, tpchDocument(minute(8), "1.50", 4, [3]float64{2500.5, 1600, 2000.2}))
			row := lab.visitor(t).get(t, fmt.Sprintf("/tpch/details/%d", id)).rows(t)[0]
			wantMembers(t, row, map[string]any{"scale_factor": 1.5, "streams": 4.0, "power_score": 2500.5, "throughput_score": 1600.0})
			if row := lab.runRow(t, id); len(list(row, "pgbench_result")) != 0 || len(list(row, "postgres_info")) == 0 {
				t.Errorf("the TPC-H run is shown as %v", row)
			}
		})
		t.Run("of generation D, with plans", func(t *testing.T) {
			d := tpchDocument(minute(9), "1", 2, [3]float64{1, 2, 3})
			d["explain_results"] = map[string]any{"1": "[([{'Plan': {'Node Type': 'Limit'}}],)]"}
			d["explain_results_costOff"], d["query_plans"] = nil, map[string]any{"1": "SELECT 1", "2": nil}
			m.store(t, d)
		})
		t.Run("of generation D, a custom script", func(t *testing.T) {
			id := m.store(t, customDocument(minute(10), sample{55.5, 18}))
			if row := lab.resultRow(t, id, 1); row["tps"] != 55.5 {
				t.Errorf("the result of the custom script is %v", row)
			}
			if row := lab.runRow(t, id); len(list(row, "pgbench_result")) != 1 {
				t.Errorf("the run of the custom script is %v", row)
			}
		})
		t.Run("with members that nobody knows", func(t *testing.T) {
			m.store(t, smallDocument(11).set("git_pull_log", "…").set("pg_settings_log", map[string]any{"deep": []any{[]any{}}}).set("kernel.more", 1))
		})
		t.Run("without any result", func(t *testing.T) {
			id := m.store(t, pgbenchDocument(minute(12), usualConfig).set("pgbench", []any{}))
			if row := lab.runRow(t, id); string(must(json.Marshal(row["pgbench_result"]))) != "[]" {
				t.Errorf("pgbench_result is %v, want an empty array", row["pgbench_result"])
			}
		})
		t.Run("from a Mac", func(t *testing.T) {
			row := lab.resultRow(t, lab.newMachine(t).store(t, darwinDocument(minute(13))), 1)
			wantMembers(t, row, map[string]any{"run_id_id__os_kernel_version_id_id__kernel_id__kernel_name": "Darwin"})
		})
	})
}

// The client's default settings on 64 processors: two tests, two iterations, three client counts, and a log line for each
// second of each of its threads (contract section 6).
func TestLargestUploadOfTheDefaultSettingsIsStoredWholeAndReadBack(t *testing.T) {
	covers(t, "POST /run/upload", "GET /benchmark/pgbench_results_complete/:pgbench_result_id")
	const seconds = 600
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		d := pgbenchDocument(minute(0), usualConfig)
		d["pgbench"], d["pgbench_log_aggregate"] = []any{}, []any{}
		line := func(second int) string {
			return fmt.Sprintf("%d 12345 987654321 98765432109876 1234 567890\n", firstStart.Unix()+int64(second))
		}
		var log strings.Builder
		for second := range seconds {
			log.WriteString(line(second))
		}
		threads := []int{1, 64, 128}
		for _, readOnly := range []bool{true, false} {
			for _, clients := range threads {
				config := pgbenchConfig{clients: clients, scale: 100, duration: seconds, readOnly: readOnly}
				d.addTest("pgbench", config, sample{1000, 1}, sample{1001, 2})
				for iteration := range 2 {
					for thread := 1; thread < clients; thread++ {
						d.addLog(config, iteration, fmt.Sprintf(".%d", 1000+thread), log.String())
					}
				}
			}
		}
		body := d.body()
		if len(body) < 20_000_000 {
			t.Fatalf("the upload has %d bytes, want it as large as the largest", len(body))
		}
		m := lab.newMachine(t)
		m.upload(t, body).is(t, http.StatusCreated, "")
		id := uint64(list(lab.browser(t, m.Owner).own(t, m.Alias), "latest")[0].(float64))
		if results := list(lab.runRow(t, id), "pgbench_result"); len(results) != 12 {
			t.Fatalf("the run has %d results, want 12", len(results))
		}
		if lines := list(lab.resultRow(t, id, 5), "pgbench_log"); len(lines) != 127*seconds+1 {
			t.Errorf("a result with 128 threads has %d log lines, want %d", len(lines), 127*seconds+1)
		}
	})
}

// onlyReader hides how long a body is.
type onlyReader struct{ r *bytes.Reader }

func (o onlyReader) Read(p []byte) (int, error) { return o.r.Read(p) }

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

func TestUploadWithTheSameStartIsRefusedInEveryNotationNamingTheStoredRun(t *testing.T) {
	covers(t, "POST /run/upload", "GET /machine/user")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		m, other := lab.newMachine(t), lab.newMachine(t)
		stored := m.store(t, smallDocument(0))
		for _, start := range []string{
			"2021-07-02T11:00:00+0000", "2021-07-02T13:00:00+0200", "2021-07-02T11:00:00Z", "2021-07-02T11:00:00", "2021-07-02T05:30:00.000-05:30",
		} {
			answer := m.upload(t, smallDocument(1).set("run_start_time", start).body())
			var refused struct {
				Error string
				RunID uint64 `json:"run_id"`
			}
			answer.Want(t, http.StatusNotAcceptable).JSON(t, &refused)
			if refused.RunID != stored || !strings.Contains(refused.Error, fmt.Sprint(stored)) {
				t.Errorf("run_start_time %s is refused with %s, want run %d to be named", start, answer.Body, stored)
			}
		}
		other.store(t, smallDocument(0))
		second := m.store(t, smallDocument(0).set("run_start_time", "2021-07-02T11:00:00.000001+0000"))
		wantMembers(t, lab.browser(t, m.Owner).own(t, m.Alias), map[string]any{"count": 2.0, "latest": []uint64{second, stored}})
	})
}

func TestMachineTypeIsFixedByTheFirstStoredRun(t *testing.T) {
	covers(t, "POST /run/upload", "GET /machine/user")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		m := lab.newMachine(t)
		owner := lab.browser(t, m.Owner)
		m.upload(t, smallDocument(0).set("kernel.uname_m", "x86_64").set("git.branch", "").body()).refuses(t, http.StatusNotAcceptable, "git.branch")
		wantMembers(t, owner.own(t, m.Alias), map[string]any{"machine_type": ""})
		m.store(t, smallDocument(0))
		m.upload(t, smallDocument(1).set("kernel.uname_m", "x86_64").body()).refuses(t, http.StatusNotAcceptable, "kernel.uname_m", "x86_64", "aarch64")
		wantMembers(t, owner.own(t, m.Alias), map[string]any{"machine_type": "aarch64", "count": 1.0})
	})
}

func TestSecretThatNamesNoApprovedMachineIs406(t *testing.T) {
	covers(t, "POST /run/upload")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		m := lab.newMachine(t)
		stranger := lab.elsewhere(t)
		for name, secret := range map[string]string{
			"none": "", "unknown": strings.Repeat("f", 32), "with a scheme": "Token " + m.Secret, "as a bearer token": "Bearer " + m.Secret,
			"basic credentials": "Basic eDp5", "in upper case": strings.ToUpper(m.Secret), "cut off": m.Secret[:31], "too long": strings.Repeat("f", 129),
			"an operator's token": lab.operator(t).header.Get("Authorization"), "the alias": m.Alias,
		} {
			answer := stranger.with("Authorization", secret).do(t, http.MethodPost, "/run/upload/", smallDocument(0).body())
			answer.refuses(t, http.StatusNotAcceptable, "secret")
			if strings.Contains(string(answer.Body), m.Secret) {
				t.Errorf("%s: the answer repeats the secret: %s", name, answer.Body)
			}
		}
		stranger.do(t, http.MethodPost, "/run/upload/", []byte("{")).refuses(t, http.StatusBadRequest) // upstream looks at the JSON first
		m.store(t, smallDocument(0))
	})
}

// formatFaults are bodies that are no upload at all (contract 5.4.1).
func formatFaults() map[string][]byte {
	good := string(smallDocument(0).body())
	return map[string][]byte{
		"nothing":                 {},
		"blanks":                  []byte(" \n"),
		"text":                    []byte("hello"),
		"a form":                  []byte("a=b&c=d"),
		"a string":                []byte(`"hello"`),
		"a number":                []byte("1e400"),
		"null":                    []byte("null"),
		"an object":               smallDocument(0).object(),
		"an empty array":          []byte("[]"),
		"two documents":           []byte("[" + good[1:len(good)-1] + "," + good[1:len(good)-1] + "]"),
		"an array of arrays":      []byte("[[]]"),
		"an array of null":        []byte("[null]"),
		"cut off":                 []byte(good[:len(good)/2]),
		"without its last byte":   []byte(good[:len(good)-1]),
		"with a tail":             []byte(good + "x"),
		"with a second value":     []byte(good + good),
		"a trailing comma":        []byte(strings.Replace(good, "}]", "},]", 1)),
		"single quotes":           []byte(strings.ReplaceAll(good, `"`, `'`)),
		"a bare NaN":              []byte(strings.Replace(good, `"init":4.25`, `"init":NaN`, 1)),
		"a bare Infinity":         []byte(strings.Replace(good, `"init":4.25`, `"init":-Infinity`, 1)),
		"a bare NUL":              []byte(strings.Replace(good, "aarch64", "aarch\x0064", 1)),
		"a byte order mark":       []byte("\xef\xbb\xbf" + good),
		"not UTF-8":               []byte(strings.Replace(good, "aarch64", "aarch\xff64", 1)),
		"nested without end":      bytes.Repeat([]byte("["), 1<<20),
		"nested beyond the limit": []byte(strings.Replace(good, `"pg_ctl":""`, `"pg_ctl":"","deep":`+strings.Repeat(`[`, 100)+strings.Repeat(`]`, 100), 1)),
	}
}

// fault is a body that is refused, and what the refusal must name.
type fault struct {
	body []byte
	says string
}

// documentFaults are uploads in which something is missing or wrong (contract 5.4.1 and 6).
func documentFaults() map[string]fault {
	faults := map[string]fault{}
	for _, member := range []string{
		"git", "git.remote", "git.branch", "git.commit", "kernel", "kernel.uname_s", "kernel.uname_r", "kernel.uname_v", "kernel.uname_m",
		"os_information", "os_information.release", "system", "system.memory.virtual", "system.memory.mounts", "sysctl_log", "compiler",
		"postgres_settings", "pg_ctl", "run_received_time", "run_start_time", "run_end_time", "git_clone_runtime", "cleanup_runtime",
		"pgbench_log", "pgbench_log_aggregate",
	} {
		faults["without "+member] = fault{smallDocument(0).drop(member).body(), member}
	}
	const result = "pgbench.0.iterations.0."
	for _, f := range []struct {
		member string
		value  any
		says   string
	}{
		{"git.branch", 7, "git.branch"},
		{"git.commit", nil, "git.commit"},
		{"git.remote", "a b", "git.remote"},
		{"kernel.uname_s", "Windows", "kernel.uname_s"},
		{"kernel.uname_m", []any{}, "kernel.uname_m"},
		{"compiler", 15, "compiler"},
		{"postgres_settings", nil, "postgres_settings"},
		{"sysctl_log", []any{}, "sysctl_log"},
		{"pgbench", map[string]any{}, "pgbench"},
		{"run_start_time", nil, "run_start_time"},
		{"run_end_time", "yesterday", "run_end_time"},
		{"git_pull_runtime", "two seconds", "git_pull_runtime"},
		{"meta.benchmark", "sysbench", "meta.benchmark"},
		{"os_information.codename", strings.Repeat("x", 101), "100"},
		{"system.cpu.information.count", "16", "count"},
		{"system.memory.virtual.total", json.Number("1e400"), "total"},
		{"pg_ctl", "a\x00b", "pg_ctl"},
		{"pgbench_log_aggregate", []any{}, "log"},
		{"pgbench.0.scale", "many", "scale"},
		{"pgbench.0.clients", "8", "clients"},
		{"pgbench.0.read_only", "no", "read_only"},
		{result + "tps", "-1", "tps"},
		{result + "latency", "NaN", "latency"},
		{result + "init", -1, "init"},
		{result + "start", "now", "start"},
		{result + "iteration", 0.5, "iteration"},
		{result + "pg_stat_statements", map[string]any{}, "pg_stat_statements"},
		{result + "collectd", []any{}, "collectd"},
	} {
		faults[fmt.Sprintf("%s is %.20v", f.member, f.value)] = fault{smallDocument(0).set(f.member, f.value).body(), f.says}
	}
	return faults
}

// After each bad body a good one must come through, all the way to the lists: no bad one may stall what is behind the door.
func TestBadBodyIsRefusedWithTheContractsStatusAndStallsNothing(t *testing.T) {
	covers(t, "POST /run/upload", "GET /run/:run_id")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		m := lab.newMachine(t)
		for name, body := range formatFaults() {
			t.Run(name, func(t *testing.T) { m.upload(t, body).refuses(t, http.StatusBadRequest) })
		}
		for name, fault := range documentFaults() {
			t.Run(name, func(t *testing.T) { m.upload(t, fault.body).refuses(t, http.StatusNotAcceptable, fault.says) })
		}
		wantMembers(t, lab.browser(t, m.Owner).own(t, m.Alias), map[string]any{"count": 0.0, "machine_type": ""})
		lab.runRow(t, m.store(t, smallDocument(0)))
	})
}

func TestLoneSurrogateAndOutOfRangeScoresAre406(t *testing.T) {
	covers(t, "POST /run/upload")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		m := lab.newMachine(t)
		text := strings.Replace(string(smallDocument(0).body()), `"master"`, `"mas\ud800ter"`, 1)
		m.upload(t, []byte(text)).refuses(t, http.StatusNotAcceptable, "git.branch")
		for member, value := range map[string]any{
			"scale_factor": "-1", "num_streams": "-1", "power_size": -0.5, "throughput_size": "Infinity", "qphh_size": "NaN",
			"power": map[string]any{"23": 1.5}, "throughput": map[string]any{"0": 1.5},
		} {
			m.upload(t, tpchDocument(minute(0), "1", 2, [3]float64{1, 2, 3}).set(member, value).body()).refuses(t, http.StatusNotAcceptable, member)
		}
	})
}

func TestPackedBodyThatIsDamagedOrTooLargeIsRefused(t *testing.T) {
	covers(t, "POST /run/upload")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		m := lab.newMachine(t)
		packed := m.uploader(t).with("Content-Encoding", "gzip")
		good := gzipped(t, smallDocument(0).body())
		damaged := bytes.Clone(good)
		damaged[len(damaged)-6] ^= 0xff
		for name, body := range map[string][]byte{
			"cut off": good[:len(good)/2], "header alone": good[:10], "not gzip": smallDocument(0).body(), "damaged": damaged,
			"with a tail": append(bytes.Clone(good), 1, 2, 3),
		} {
			answer := packed.do(t, http.MethodPost, "/run/upload/", body)
			answer.refuses(t, http.StatusBadRequest)
			if t.Failed() {
				t.Fatalf("the body is %s", name)
			}
		}
		bomb := gzipped(t, make([]byte, 101<<20))
		packed.do(t, http.MethodPost, "/run/upload/", bomb).refuses(t, http.StatusRequestEntityTooLarge, "104857600")
		for _, encoding := range []string{"br", "zstd", "deflate", "gzip, gzip"} {
			packed.with("Content-Encoding", encoding).do(t, http.MethodPost, "/run/upload/", good).refuses(t, http.StatusUnsupportedMediaType, "gzip")
		}
		packed.do(t, http.MethodPost, "/run/upload/", good).is(t, http.StatusCreated, "")
	})
}

func TestBodyThatEndsEarlyLeavesNothingBehind(t *testing.T) {
	covers(t, "POST /run/upload")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		m := lab.newMachine(t)
		address, err := url.Parse(lab.URL())
		if err != nil {
			t.Fatal(err)
		}
		conn, err := net.DialTimeout("tcp", address.Host, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		body := smallDocument(0).body()
		fmt.Fprintf(conn, "POST /run/upload/ HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Length: %d\r\n\r\n%s", m.Secret, len(body), body[:len(body)/2])
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		m.store(t, smallDocument(0)) // a duplicate if the half had been taken for the whole
		wantMembers(t, lab.browser(t, m.Owner).own(t, m.Alias), map[string]any{"count": 1.0})
	})
}

func TestUploadsOfOneRunAtTheSameMomentHaveOneWinner(t *testing.T) {
	covers(t, "POST /run/upload", "GET /machine/user")
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		m := lab.newMachine(t)
		answers := make(chan Answer, 16)
		for n := range cap(answers) {
			go func() {
				doors := lab.Ingest()
				answer, err := try(t.Context(), http.MethodPost, doors[n%len(doors)]+"/run/upload/", smallDocument(0).body(), "Authorization", m.Secret)
				if err != nil {
					t.Error(err)
				}
				answers <- answer
			}()
		}
		statuses := map[int]int{}
		named := map[string]bool{}
		for range cap(answers) {
			answer := <-answers
			statuses[answer.Status]++
			if answer.Status == http.StatusCreated {
				named[strings.TrimPrefix(answer.Header.Get("Location"), "/run/")] = true
				continue
			}
			var refused struct {
				RunID uint64 `json:"run_id"`
			}
			answer.JSON(t, &refused)
			named[fmt.Sprint(refused.RunID)] = true
		}
		if want := map[int]int{http.StatusCreated: 1, http.StatusNotAcceptable: cap(answers) - 1}; !maps.Equal(statuses, want) {
			t.Errorf("the answers are %v, want one 201 and 406 otherwise", statuses)
		}
		if len(named) != 1 {
			t.Errorf("the answers name the runs %v, want the same one", slices.Sorted(maps.Keys(named)))
		}
		lab.visitor(t).do(t, http.MethodPost, "/run/upload", nil) // the test goes to the doors themselves
		wantMembers(t, lab.browser(t, m.Owner).own(t, m.Alias), map[string]any{"count": 1.0})
	})
}
