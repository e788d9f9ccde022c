package testflinger

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const typeJSON = "application/json"

// verdict shows what reading came to: what was read, or the answer's detail, or the error.
func verdict(document []byte, err error) string {
	invalid := (*InvalidError)(nil)
	switch {
	case errors.As(err, &invalid):
		faults, _ := json.Marshal(invalid.Faults)
		return "422 " + string(faults)
	case err != nil:
		return "400 " + err.Error()
	}
	return string(document)
}

func readJob(g Generation, contentType, body string) string {
	job, err := ReadJob(g, contentType, []byte(body))
	if err != nil {
		return verdict(nil, err)
	}
	return verdict(job.Document("ID"))
}

func TestJobsAreTakenOrRefusedAsTheContractSays(t *testing.T) {
	for _, tc := range []struct{ name, body, seed, latest string }{
		{
			"the least", `{"job_queue": "q"}`, `{"job_id":"ID","job_queue":"q"}`, `{"exclude_agents":[],"job_id":"ID","job_queue":"q"}`,
		},
		{"no queue", `{}`, `422 {"job_queue":["Missing data for required field."]}`, "="},
		{"null queue", `{"job_queue":null}`, `422 {"job_queue":["Field may not be null."]}`, "="},
		{"queue is a number", `{"job_queue":5}`, `422 {"job_queue":["Not a valid string."]}`, "="},
		{"empty queue", `{"job_queue":""}`, `{"job_id":"ID","job_queue":""}`, `422 {"job_queue":["Shorter than minimum length 1."]}`},
		{"no object", `[1]`, `422 {"_schema":["Invalid input type."]}`, "="},
		{"a string", `"job_queue: q"`, `422 {"_schema":["Invalid input type."]}`, "="},
		{"no JSON", `{`, "400 the body is no JSON", "="},
		{"two values", `{} {}`, "400 the body is no JSON", "="},
		{"nothing", ``, `422 {"job_queue":["Missing data for required field."]}`, "="},
		{"null id", `{"job_queue":"q","job_id":null}`, `422 {"job_id":["Field may not be null."]}`, "="},
		{
			"other parameters are passed along", `{"job_queue":"q","option":"foo","n":1.50,"o":{"<":null}}`,
			`{"job_id":"ID","job_queue":"q","n":1.50,"o":{"<":null},"option":"foo"}`,
			`{"exclude_agents":[],"job_id":"ID","job_queue":"q","n":1.50,"o":{"<":null},"option":"foo"}`,
		},
		{"the server's own members", `{"job_queue":"q","attachments_status":"complete"}`, `422 {"attachments_status":["Unknown field."]}`, "="},
		{"tags", `{"job_queue":"q","tags":["a",1]}`, `422 {"tags":{"1":["Not a valid string."]}}`, "="},
		{"tags are no list", `{"job_queue":"q","tags":"a"}`, `422 {"tags":["Not a valid list."]}`, "="},
		{
			"integers in strings", `{"job_queue":"q","global_timeout":"12","job_priority":3.0}`,
			`{"global_timeout":12,"job_id":"ID","job_priority":3,"job_queue":"q"}`,
			`{"exclude_agents":[],"global_timeout":12,"job_id":"ID","job_priority":3,"job_queue":"q"}`,
		},
		{"no integer", `{"job_queue":"q","job_priority":1.5,"output_timeout":true}`,
			`422 {"job_priority":["Not a valid integer."],"output_timeout":["Not a valid integer."]}`, "="},
		{"old skip", `{"job_queue":"q","provision_data":"skip"}`, `422 {"provision_data":{"_schema":["Invalid input type."]}}`, "="},
		{"no provisioning", `{"job_queue":"q","provision_data":null}`, `{"job_id":"ID","job_queue":"q","provision_data":null}`,
			`{"exclude_agents":[],"job_id":"ID","job_queue":"q","provision_data":null}`},
		{"device of no kind", `{"job_queue":"q","provision_data":{"url":5,"jobs":[]}}`,
			`422 {"provision_data":{"_schema":["No kind of device has such provision data: look at jobs, url."]}}`, "="},
		{"devices of two kinds", `{"job_queue":"q","provision_data":{"distro":"noble","media":"sd"}}`,
			`422 {"provision_data":{"_schema":["No kind of device has such provision data: look at media."]}}`, "="},
		{"image for a medium from nowhere", `{"job_queue":"q","provision_data":{"media":"sd"}}`,
			`422 {"provision_data":{"_schema":["No kind of device has such provision data: look at url or use_attachment."]}}`, "="},
		{"image for no medium", `{"job_queue":"q","provision_data":{"url":"http://place/core","media":"tape"}}`,
			`422 {"provision_data":{"_schema":["No kind of device has such provision data: look at media."]}}`, "="},
		{"many devices, but none", `{"job_queue":"q","provision_data":{"jobs":[]}}`,
			`422 {"provision_data":{"_schema":["No kind of device has such provision data: look at jobs."]}}`, "="},
		{"provisioning that is skipped somehow", `{"job_queue":"q","provision_data":{"skip":3}}`,
			`422 {"provision_data":{"_schema":["No kind of device has such provision data: look at skip."]}}`, "="},
		{"installation without memory", `{"job_queue":"q","provision_data":{"distro":"noble","ephemeral":"x"}}`,
			`{"job_id":"ID","job_queue":"q","provision_data":{"distro":"noble","ephemeral":"x"}}`,
			`422 {"provision_data":{"_schema":["No kind of device has such provision data: look at ephemeral."]}}`},
		{"plan for a control host", `{"job_queue":"q","provision_data":{"urls":["u"],"provision_plan":[]}}`,
			`{"job_id":"ID","job_queue":"q","provision_data":{"provision_plan":[],"urls":["u"]}}`,
			`422 {"provision_data":{"_schema":["No kind of device has such provision data: look at provision_plan."]}}`},
		{"list of commands", `{"job_queue":"q","test_data":{"test_cmds":["a"]}}`, `422 {"test_data":{"test_cmds":["Not a valid string."]}}`, "="},
		{"test data is no object", `{"job_queue":"q","test_data":"a"}`, `422 {"test_data":{"_schema":["Invalid input type."]}}`, "="},
		{"attachment without agent", `{"job_queue":"q","test_data":{"attachments":[{"device":"d"}]}}`,
			`422 {"test_data":{"attachments":{"0":{"agent":["Missing data for required field."]}}}}`, "="},
		{"attachment with the client's name", `{"job_queue":"q","test_data":{"attachments":[{"agent":"a","local":"l"}]}}`,
			`422 {"test_data":{"attachments":{"0":{"local":["Unknown field."]}}}}`, "="},
		{"key of nobody", `{"job_queue":"q","reserve_data":{"ssh_keys":["me"]}}`,
			`422 {"reserve_data":{"ssh_keys":{"0":["String does not match expected pattern."]}}}`, "="},
		{"reservation without end", `{"job_queue":"q","reserve_data":{"timeout":null}}`, `422 {"reserve_data":{"timeout":["Field may not be null."]}}`, "="},
		{"negative reservation", `{"job_queue":"q","reserve_data":{"timeout":-1}}`, `{"job_id":"ID","job_queue":"q","reserve_data":{"timeout":-1}}`,
			`422 {"reserve_data":{"timeout":["Must be greater than or equal to 0."]}}`},
		{"reservation in words", `{"job_queue":"q","reserve_data":{"timeout":"1d12H"}}`, `422 {"reserve_data":{"timeout":["Not a valid integer."]}}`,
			`{"exclude_agents":[],"job_id":"ID","job_queue":"q","reserve_data":{"timeout":129600}}`},
		{"exclusions", `{"job_queue":"q","exclude_agents":["b","a","b"]}`, `{"exclude_agents":["b","a","b"],"job_id":"ID","job_queue":"q"}`, "="},
		{
			"exclusions that no agent is called", `{"job_queue":"q","exclude_agents":["a\u0000b",""]}`, `{"exclude_agents":["a\u0000b",""],"job_id":"ID","job_queue":"q"}`,
			`422 {"exclude_agents":{"0":["String does not match expected pattern."],"1":["String does not match expected pattern."]}}`,
		},
		{"bad secret", `{"job_queue":"q","test_data":{"secrets":{"1":"a b"}}}`, `{"job_id":"ID","job_queue":"q","test_data":{"secrets":{"1":"a b"}}}`,
			`422 {"test_data":{"secrets":{"1":{"key":["String does not match expected pattern."],"value":["String does not match expected pattern."]}}}}`},
		{"long name", `{"job_queue":"q","name":"` + strings.Repeat("n", 256) + `"}`, `422 {"name":["Longer than maximum length 255."]}`, "="},
		{"deep", `{"job_queue":"q","o":` + strings.Repeat(`[`, 200) + strings.Repeat(`]`, 200) + `}`, "400 the body is no JSON", "="},
	} {
		if tc.latest == "=" {
			tc.latest = tc.seed
		}
		for g, want := range map[Generation]string{Seed: tc.seed, Latest: tc.latest} {
			if got := readJob(g, typeJSON, tc.body); got != want {
				t.Errorf("%s, %s: %s\ngives %s\nwant  %s", tc.name, g, tc.body, got, want)
			}
		}
	}
	for _, other := range []string{"", "text/plain", "nonsense/"} {
		if got := readJob(Seed, other, `{"job_queue":"q"}`); got != `422 {"job_queue":["Missing data for required field."]}` {
			t.Errorf("a body of type %q gives %s", other, got)
		}
	}
}

func TestWhatOfAJobCountsIsRead(t *testing.T) {
	got, err := ReadJob(Latest, "application/json; charset=utf-8", []byte(`{"job_queue":"q","job_id":"i","name":"n","parent_job_id":"p","tags":["a","b"],
		"job_priority":7,"reserve_data":{"timeout":"2h"},"exclude_agents":["y","x","y"],"test_data":{"secrets":{"A":"b/c"}},"allocate_data":{}}`))
	if err != nil {
		t.Fatal(err)
	}
	got.members = nil
	want := &Job{
		Queue: "q", ID: "i", Name: "n", Parent: "p", Tags: []string{"a", "b"}, Priority: 7, Reservation: 7200, Reserves: true, Excluded: []string{"x", "y"},
		Secrets: map[string]string{"A": "b/c"},
	}
	if difference := cmp.Diff(want, got, cmp.AllowUnexported(Job{})); difference != "" {
		t.Error(difference)
	}
	for body, held := range map[string]bool{
		`{"job_queue":"q","test_data":{"attachments":[]}}`:            true,
		`{"job_queue":"q","firmware_update_data":{"attachments":1}}`:  true,
		`{"job_queue":"q","other_data":{"attachments":null}}`:         true,
		`{"job_queue":"q","other":{"attachments":[]}}`:                false,
		`{"job_queue":"q","test_data":{"x":1},"provision_data":null}`: false,
	} {
		if job, err := ReadJob(Seed, typeJSON, []byte(body)); err != nil || job.Held != held || job.Reservation != 3600 {
			t.Errorf("%s: %+v, %v; want held %t for an hour", body, job, err, held)
		}
	}
}

func TestDurationsOfReservations(t *testing.T) {
	for text, want := range map[string]int64{"90s": 90, "30min": 1800, "6H": 21600, "1d12h": 129600, "2 hours 5 mins": 7500, "1day": 86400, "5 secs": 5} {
		if got, ok := parseDuration(text); !ok || got != want {
			t.Errorf("%q is %d, %t; want %d", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "h", "5", "5w", "-5s", "5s!", "1.5h", strings.Repeat("9", 10) + "s"} {
		if got, ok := parseDuration(text); ok {
			t.Errorf("%q is %d", text, got)
		}
	}
}

func TestJobIDsInAllSpellings(t *testing.T) {
	const id = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
	for _, good := range []string{id, strings.ToUpper(id), "{" + id + "}", "urn:uuid:" + id, strings.ReplaceAll(id, "-", "")} {
		if !IsJobID(good) {
			t.Errorf("%q is refused", good)
		}
	}
	for _, bad := range []string{"", "x", id[1:], id + "0", strings.Replace(id, "6", "g", 1), strings.Repeat("-", 100) + id, "6ba7b810\x009dad", strings.Replace(id, "6", "\x16", 1)} {
		if IsJobID(bad) {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestAssignmentHasWhatWasSubmittedAndMore(t *testing.T) {
	got, err := Assignment([]byte(`{"job_id":"i","n":1.50}`), map[string]any{"started_at": "t", "attachments_status": "complete"})
	if want := `{"job_id":"i","n":1.50,"attachments_status":"complete","started_at":"t"}`; err != nil || string(got) != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
	if _, err := Assignment([]byte(`7`), map[string]any{"a": 1}); err == nil {
		t.Error("a document that is no object is taken")
	}
}

func TestSecretsAreRevealedInPlace(t *testing.T) {
	value := func(path string) (string, error) {
		if path == "broken" {
			return "", errors.New("no")
		}
		return "<" + path + ">", nil
	}
	got, err := RevealSecrets([]byte(`{"job_id":"i","n":1.50,"test_data":{"secrets":{"A":"a/b","B":"c"}}}`), value)
	if want := `{"job_id":"i","n":1.50,"test_data":{"secrets":{"A":"<a/b>","B":"<c>"}}}`; err != nil || string(got) != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
	plain := []byte(`{ "job_id":"i" }`)
	if got, err := RevealSecrets(plain, value); err != nil || string(got) != string(plain) {
		t.Errorf("a job without secrets becomes %s, %v", got, err)
	}
	if _, err := RevealSecrets([]byte(`{"test_data":{"secrets":{"A":"broken"}}}`), value); err == nil {
		t.Error("a secret that cannot be read is passed over")
	}
}

func readResult(g Generation, body string) string {
	result, err := ReadResult(g, typeJSON, []byte(body))
	if err != nil {
		return verdict(nil, err)
	}
	document, err := result.Document()
	state := "-"
	if result.State != nil {
		state = *result.State
	}
	return state + " " + strings.Join(result.Members, ",") + " " + verdict(document, err)
}

func TestResultsAreTakenOrRefusedAsTheContractSays(t *testing.T) {
	for _, tc := range []struct{ name, body, seed, latest string }{
		{"a state", `{"job_state":"any text"}`, "any text  {}", "="},
		{"nothing", `{}`, "-  {}", "="},
		{"null state", `{"job_state":null}`, `422 {"job_state":["Field may not be null."]}`, "="},
		{"the example of the first description", `{"exit_code":0,"output":"foo"}`, `- exit_code,output {"exit_code":0,"output":"foo"}`, "="},
		{"device", `{"device_info":{"device_ip":"10.0.0.1"}}`, `- device_info {"device_info":{"device_ip":"10.0.0.1"}}`, "="},
		{"no device", `{"device_info":[]}`, `422 {"device_info":["Not a valid mapping type."]}`, "="},
		{"flat", `{"test_status":"0","test_output":"out","test_serial":"","job_state":"complete"}`,
			`complete test_output,test_serial,test_status {"test_output":"out","test_serial":"","test_status":0}`,
			`422 {"test_output":["Unknown field."],"test_serial":["Unknown field."],"test_status":["Unknown field."]}`},
		{"output is no text", `{"setup_output":1}`, `422 {"setup_output":["Not a valid string."]}`, `422 {"setup_output":["Unknown field."]}`},
		{"status by phase", `{"status":{"setup":0,"provision":"46"}}`, `- status {"status":{"provision":"46","setup":0}}`,
			`- status {"status":{"provision":46,"setup":0}}`},
		{"unknown phase", `{"status":{"lunch":0}}`, `- status {"status":{"lunch":0}}`, `422 {"status":{"lunch":["Unknown field."]}}`},
		{"a list", `[]`, `422 {"_schema":["Invalid input type."]}`, "="},
	} {
		if tc.latest == "=" {
			tc.latest = tc.seed
		}
		for g, want := range map[Generation]string{Seed: tc.seed, Latest: tc.latest} {
			if got := readResult(g, tc.body); got != want {
				t.Errorf("%s, %s: %s\ngives %s\nwant  %s", tc.name, g, tc.body, got, want)
			}
		}
	}
}

func TestFaultsOfSmallBodies(t *testing.T) {
	read := map[string]func(body string) error{
		"action":    func(body string) error { return ReadAction(typeJSON, []byte(body)) },
		"agent":     func(body string) error { _, err := ReadAgent(typeJSON, []byte(body)); return err },
		"provision": func(body string) error { _, err := ReadProvision(typeJSON, []byte(body)); return err },
		"queues":    func(body string) error { _, err := ReadQueues(Latest, typeJSON, []byte(body)); return err },
		"old queue": func(body string) error { _, err := ReadQueues(Seed, typeJSON, []byte(body)); return err },
		"images":    func(body string) error { _, err := ReadImages(Latest, typeJSON, []byte(body)); return err },
		"old image": func(body string) error { _, err := ReadImages(Seed, typeJSON, []byte(body)); return err },
		"fragment":  func(body string) error { _, err := ReadFragment(typeJSON, []byte(body)); return err },
		"new":       func(body string) error { _, err := ReadNewClient(typeJSON, []byte(body)); return err },
		"seed put":  func(body string) error { _, err := ReadClient(Seed, typeJSON, []byte(body)); return err },
		"put":       func(body string) error { _, err := ReadClient(Latest, typeJSON, []byte(body)); return err },
		"owner":     func(body string) error { _, err := ReadOwner(typeJSON, []byte(body)); return err },
		"refresh":   func(body string) error { _, err := ReadRefreshToken(typeJSON, []byte(body)); return err },
		"secret":    func(body string) error { _, err := ReadSecret(typeJSON, []byte(body)); return err },
	}
	const ok = ""
	for _, tc := range []struct{ kind, body, want string }{
		{"action", `{"action":"cancel"}`, ok}, {"action", `{"action":"Cancel"}`, ok},
		{"action", `{}`, `422 {"action":["Missing data for required field."]}`},
		{"action", `{"action":"stop","x":1}`, `422 {"action":["Must be one of: cancel."],"x":["Unknown field."]}`},
		{"agent", `{"state":"waiting","queues":["q"],"log":["l"],"comment":""}`, ok},
		{"agent", `{"state":1,"name":"n"}`, `422 {"name":["Unknown field."],"state":["Not a valid string."]}`},
		{"provision", `{"job_id":"i","exit_code":"3"}`, ok},
		{"provision", `{"detail":1}`, `422 {"detail":["Not a valid string."],"exit_code":["Missing data for required field."],"job_id":["Missing data for required field."]}`},
		{"queues", `{"q":"text"}`, ok}, {"queues", `{"q":1}`, `422 {"q":["Not a valid string."]}`}, {"queues", `[]`, `422 {"_schema":["Invalid input type."]}`},
		{"old queue", `{"q":1,"r":null}`, ok}, {"old queue", `[]`, `422 {"_schema":["Invalid input type."]}`},
		{"images", `{"q":{"core":"url: x"}}`, ok},
		{"images", `{"q":{"$x":"a"}}`, `422 {"q":{"$x":["Invalid image name: it must not begin with $, nor have a dot or a NUL."]}}`},
		{"images", `{"q":{"a.b":"a","c":1}}`, `422 {"q":{"a.b":["Invalid image name: it must not begin with $, nor have a dot or a NUL."],"c":["Not a valid string."]}}`},
		{"old image", `{"q":{"a.b":"a"}}`, ok}, {"images", `{"q":"a"}`, `422 {"q":{"_schema":["Invalid input type."]}}`},
		{"fragment", `{"fragment_number":0,"timestamp":"2026-01-02T03:04:05.678901+00:00","phase":"test","log_data":""}`, ok},
		{"fragment", `{"fragment_number":-1,"timestamp":"2026-01-02T03:04:05Z","phase":"test","log_data":""}`, `422 {"fragment_number":["Must be greater than or equal to 0."]}`},
		{"fragment", `{"fragment_number":"x","timestamp":"noon","phase":"lunch"}`, `422 {"fragment_number":["Not a valid integer."],"log_data":["Missing data for required field."],` +
			`"phase":["Must be one of: setup, provision, firmware_update, test, allocate, reserve, cleanup."],"timestamp":["Not a valid datetime."]}`},
		{"new", `{"client_id":"c","client_secret":"s","role":"user","max_priority":null,"max_reservation_time":{"*":"5"}}`, ok},
		{"new", `{"client_id":"c","client_secret":"s","role":"agent","allowed_queues":[]}`,
			`422 {"allowed_queues":["Unknown field."],"role":["Must be one of: admin, manager, contributor, user."]}`},
		{"new", `{"max_priority":{"q":"x"}}`, `422 {"max_priority":{"q":{"value":["Not a valid integer."]}}}`},
		{"seed put", `{"client_id":"other","client_secret":"x","max_priority":null,"max_reservation_time":{}}`, ok},
		{"seed put", `{"role":"manager","max_priority":{}}`, `422 {"max_reservation_time":["Missing data for required field."]}`},
		{"put", `{"client_secret":"123456789012345","role":"agent","email":"a@b"}`, ok},
		{"put", `{"client_id":"c","client_secret":"short","max_priority":null}`,
			`422 {"client_id":["Unknown field."],"client_secret":["Shorter than minimum length 15."],"max_priority":["Field may not be null."]}`},
		{"owner", `{"client_id":"c"}`, ok}, {"owner", `{}`, ok}, {"owner", `{"client_id":1}`, `422 {"client_id":["Not a valid string."]}`},
		{"refresh", `{"refresh_token":""}`, `422 {"refresh_token":["Shorter than minimum length 1."]}`},
		{"secret", `{"value":"v","expire_after":null}`, ok}, {"secret", `{"value":"v","ephemeral":true}`, ok},
		{"secret", `{"value":"","expire_after":0}`, `422 {"expire_after":["Must be greater than or equal to 1 and less than or equal to 3162240000."],"value":["Shorter than minimum length 1."]}`},
		{"secret", `{"value":"v","expire_after":1,"ephemeral":true}`, `422 {"_schema":["A secret is either ephemeral or expires: not both."]}`},
	} {
		if got := verdict(nil, read[tc.kind](tc.body)); got != tc.want {
			t.Errorf("%s %s\ngives %s\nwant  %s", tc.kind, tc.body, got, tc.want)
		}
	}
}

func TestLogOfAnAgentIsCutToItsNewestLines(t *testing.T) {
	lines := make([]string, 150)
	for i := range lines {
		lines[i] = fmt.Sprintf("%q", fmt.Sprint(i))
	}
	agent, err := ReadAgent(typeJSON, []byte(`{"queues":[],"log":[`+strings.Join(lines, ",")+`]}`))
	if err != nil || len(agent.Log) != 100 || agent.Log[0] != "50" || agent.Log[99] != "149" {
		t.Errorf("%v, %v", agent, err)
	}
	if !agent.HasQueues || agent.State != nil {
		t.Errorf("no queues at all are %t, a state is %v", agent.HasQueues, agent.State)
	}
}

func TestSecretPaths(t *testing.T) {
	for path, want := range map[string]bool{"a": true, "a/b_c-1": true, "": false, "a//b": false, "a b": false, "ü": false, strings.Repeat("a", 256): false} {
		if got := IsSecretPath(path); got != want {
			t.Errorf("path %q: %t", path, got)
		}
	}
}

func TestStatesThatEndAJob(t *testing.T) {
	for _, state := range append(Phases(), "waiting", "running", "allocated", "", "Complete") {
		if Ended(state) {
			t.Errorf("%q ends a job", state)
		}
	}
	if ended := []string{"complete", "completed", "cancelled"}; slices.ContainsFunc(ended, func(s string) bool { return !Ended(s) }) {
		t.Errorf("one of %v does not end a job", ended)
	}
}

func TestProvisionDataOfEveryKindOfDeviceIsTaken(t *testing.T) {
	for _, data := range []string{
		`{}`, `{"url":"http://place/core"}`, `{"disks":[{"id":"a"}],"distro":"noble","kernel":"hwe","user_data":"x"}`, `{"jobs":[{}]}`,
		`{"attachments":[{"agent":"a"}],"boot_check_url":"http://place","create_user":true,"media":"usb","use_attachment":"core"}`,
		`{"media":"sd","url":"http://place/core"}`, `{"skip":true}`,
		`{"attachments":[{"agent":"a"}],"authorized_keys":"k","redeploy_cfg":"r","token_file":"t","url":"u","user_data":"x"}`,
		`{"preset":"p","preset_kwargs":{"a":1},"urls":["u"]}`, `{"provision_plan":{"run":[]},"urls":["u"]}`,
		`{"live_image":true,"robot_tasks":["a"],"url":"u","wait_until_ssh":false}`, `{"acme_urls":["u"],"acme_preset":"p"}`,
		`{"ephemeral":true}`, `{"of_no_kind":1,"url":"u"}`,
	} {
		for _, g := range []Generation{Seed, Latest} {
			got := readJob(g, typeJSON, `{"job_queue":"q","provision_data":`+data+`}`)
			if strings.HasPrefix(got, "422") {
				t.Errorf("%s: %s gives %s", g, data, got)
			}
		}
	}
}

func TestOlderAgentsDescribeQueuesInEveryType(t *testing.T) {
	got, err := ReadQueues(Seed, typeJSON, []byte(`{"a":"of otters","b":null,"c":3,"d":["x"]}`))
	want := map[string]string{"a": "of otters", "b": "", "c": "3", "d": `["x"]`}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
}
