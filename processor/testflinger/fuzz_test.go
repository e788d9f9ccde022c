package testflinger

import (
	"encoding/json"
	"errors"
	"testing"
)

// wellRefused says whether an error is one that a sender is told of.
func wellRefused(err error) bool {
	invalid := (*InvalidError)(nil)
	return errors.Is(err, ErrNotJSON) || errors.As(err, &invalid) && len(invalid.Faults) > 0
}

// FuzzJob wants every submission to be refused as the sender's mistake, or to be taken and to stay what it is when it is
// submitted again.
func FuzzJob(f *testing.F) {
	f.Add([]byte(`{"job_queue":"q","option":"foo","provision_data":{"url":"u"},"test_data":{"test_cmds":"x","attachments":[{"agent":"a"}]}}`))
	f.Add([]byte(`{"job_queue":"q","reserve_data":{"ssh_keys":["lp:me"],"timeout":"1d12h"},"tags":["a"],"job_priority":"3","exclude_agents":["x"]}`))
	f.Add([]byte(`{"job_queue":"\ud800","test_data":{"secrets":{"A":"b"}},"job_priority":9223372036854775808}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, g := range []Generation{Seed, Latest} {
			job, err := ReadJob(g, typeJSON, body)
			if err != nil {
				if !wellRefused(err) {
					t.Fatalf("%s: %v", g, err)
				}
				continue
			}
			first, err := job.Document("i")
			if err != nil || !json.Valid(first) {
				t.Fatalf("%s: %s, %v", g, first, err)
			}
			again, err := ReadJob(g, typeJSON, first)
			if err != nil {
				t.Fatalf("%s: submitted again, %s: %v", g, first, err)
			}
			second, err := again.Document("i")
			if err != nil || string(first) != string(second) {
				t.Fatalf("%s: %s becomes %s, %v", g, first, second, err)
			}
			if _, err := Assignment(first, map[string]any{"started_at": "t"}); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// FuzzResult wants every result to be refused as the sender's mistake, or to be taken and to stay what it is.
func FuzzResult(f *testing.F) {
	f.Add([]byte(`{"setup_status":0,"setup_output":"x","job_state":"complete","device_info":{}}`))
	f.Add([]byte(`{"status":{"setup":0},"exit_code":0}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, g := range []Generation{Seed, Latest} {
			result, err := ReadResult(g, typeJSON, body)
			if err != nil {
				if !wellRefused(err) {
					t.Fatalf("%s: %v", g, err)
				}
				continue
			}
			document, err := result.Document()
			var members map[string]json.RawMessage
			if err != nil || json.Unmarshal(document, &members) != nil || len(members) != len(result.Members) {
				t.Fatalf("%s: %s has the members %q, %v", g, document, result.Members, err)
			}
		}
	})
}

// FuzzPermission wants everything that is said of clients and agents to be read or refused as the sender's mistake.
func FuzzPermission(f *testing.F) {
	f.Add([]byte(`{"client_id":"c","client_secret":"s","role":"user","max_priority":{"q":1},"max_reservation_time":{"*":5}}`))
	f.Add([]byte(`{"value":"v","expire_after":5,"ephemeral":"true"}`))
	f.Add([]byte(`{"q":{"core":"url"}}`))
	f.Add([]byte(`{"fragment_number":1,"timestamp":"2026-01-02 03:04:05","phase":"test","log_data":"x"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var errs [12]error
		_, errs[0] = ReadNewClient(typeJSON, body)
		_, errs[1] = ReadClient(Seed, typeJSON, body)
		_, errs[2] = ReadClient(Latest, typeJSON, body)
		_, errs[3] = ReadOwner(typeJSON, body)
		_, errs[4] = ReadSecret(typeJSON, body)
		_, errs[5] = ReadRefreshToken(typeJSON, body)
		_, errs[6] = ReadAgent(typeJSON, body)
		_, errs[7] = ReadProvision(typeJSON, body)
		_, errs[8] = ReadQueues(Seed, typeJSON, body)
		_, errs[9] = ReadImages(Latest, typeJSON, body)
		_, errs[10] = ReadFragment(typeJSON, body)
		errs[11] = ReadAction(typeJSON, body)
		for i, err := range errs {
			if err != nil && !wellRefused(err) {
				t.Fatalf("reader %d: %v", i, err)
			}
		}
	})
}
