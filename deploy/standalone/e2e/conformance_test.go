package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
)

// listed is an element of GET /machine/list.
type listed struct {
	ID     uint64   `json:"machine_id"`
	Alias  string   `json:"alias"`
	Type   string   `json:"machine_type"`
	Latest []uint64 `json:"latest"`
}

// machines reads GET /machine/list at an address.
func machines(t testing.TB, url string) []listed {
	t.Helper()
	var list []listed
	send(t, http.MethodGet, url+"/machine/list", nil).Want(t, http.StatusOK).JSON(t, &list)
	return list
}

// find gives the machine's element.
func (l *Lab) find(t testing.TB, machine Machine) listed {
	t.Helper()
	list := machines(t, l.URL())
	i := slices.IndexFunc(list, func(m listed) bool { return m.ID == machine.ID })
	if i < 0 {
		t.Fatalf("/machine/list has no machine %d, %s", machine.ID, machine.Alias)
	}
	return list[i]
}

// refused reads the body of a 406.
func refused(t testing.TB, a Answer) (failure struct {
	Error string `json:"error"`
	RunID uint64 `json:"run_id"`
},
) {
	t.Helper()
	a.Want(t, http.StatusNotAcceptable).JSON(t, &failure)
	return failure
}

func TestWhoWasToldThatAWriteIsDoneSeesItInTheNextRead(t *testing.T) {
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		machine := lab.Machine(t)
		if found := lab.find(t, machine); found.Alias != machine.Alias || len(found.Latest) != 0 {
			t.Fatalf("the new machine is listed as %+v", found)
		}
		var stored []uint64
		for n := range 10 {
			lab.Upload(t, machine, document(n)).Want(t, http.StatusCreated)
			latest := lab.find(t, machine).Latest
			if len(latest) != min(n+1, 3) || slices.Contains(stored, latest[0]) {
				t.Fatalf("after upload %d the latest runs are %v, and before were %v", n, latest, stored)
			}
			stored = append(stored, latest[0])
		}
		if got := lab.find(t, machine).Type; got != "x86_64" {
			t.Errorf("the machine's type is %q, want that of its first upload", got)
		}
	})
}

func TestAnUploadIsReadBackWholeWhateverItsSize(t *testing.T) {
	type result struct {
		ID     uint64  `json:"pgbench_result_id"`
		TPS    float64 `json:"tps"`
		Config uint64  `json:"benchmark_config_id"`
	}
	type details struct {
		ID      uint64   `json:"run_id"`
		Machine uint64   `json:"machine_id"`
		Alias   string   `json:"machine_id__alias"`
		Owner   string   `json:"machine_id__owner_id__username"`
		Commit  string   `json:"git_commit"`
		Results []result `json:"pgbench_result"`
	}
	type complete struct {
		TPS float64 `json:"tps"`
		Run uint64  `json:"run_id_id"`
		Log []struct {
			Transactions int64 `json:"num_transactions"`
		} `json:"pgbench_log"`
	}
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		for _, tc := range []struct {
			name           string
			document       []byte
			results, lines int
		}{
			{"inline", document(1), 1, 5},
			{"by the blob store", largeDocument(1), 4, 515},
		} {
			t.Run(tc.name, func(t *testing.T) {
				machine := lab.Machine(t)
				lab.Upload(t, machine, tc.document).Want(t, http.StatusCreated)
				run := lab.find(t, machine).Latest[0]
				var read []details
				lab.Get(t, fmt.Sprintf("/run/%d", run)).Want(t, http.StatusOK).JSON(t, &read)
				if len(read) != 1 || read[0].ID != run || read[0].Machine != machine.ID || read[0].Alias != machine.Alias || read[0].Owner != machine.Owner {
					t.Fatalf("/run/%d is %+v", run, read)
				}
				if len(read[0].Results) != tc.results {
					t.Fatalf("the run has %d results, want %d", len(read[0].Results), tc.results)
				}
				var native struct {
					Run     struct{ Commit string }
					Results []json.RawMessage
				}
				lab.Get(t, fmt.Sprintf("/millrace/v1/runs/%d", run)).Want(t, http.StatusOK).JSON(t, &native)
				if native.Run.Commit != read[0].Commit || len(native.Results) != tc.results {
					t.Errorf("/millrace/v1 shows a run of commit %q with %d results, and the farm's API %q with %d",
						native.Run.Commit, len(native.Results), read[0].Commit, tc.results)
				}
				for _, r := range read[0].Results {
					var whole []complete
					lab.Get(t, fmt.Sprintf("/benchmark/pgbench_results_complete/%d", r.ID)).Want(t, http.StatusOK).JSON(t, &whole)
					if len(whole) != 1 || whole[0].Run != run || whole[0].TPS != r.TPS || len(whole[0].Log) != tc.lines {
						t.Errorf("result %d is %.300v, want one of run %d with %g transactions a second and %d log lines",
							r.ID, whole, run, r.TPS, tc.lines)
					}
				}
				first := read[0].Results[0]
				for _, path := range []string{
					fmt.Sprintf("/benchmark/history/%d", machine.ID),
					fmt.Sprintf("/benchmark/pgbench_trends/%d/%d", machine.ID, first.Config),
					fmt.Sprintf("/benchmark/pgbench_results_commit/%s/%d/%d", read[0].Commit, machine.ID, first.Config),
				} {
					var list []json.RawMessage
					lab.Get(t, path).Want(t, http.StatusOK).JSON(t, &list)
					if len(list) == 0 {
						t.Errorf("%s lists nothing", path)
					}
				}
			})
		}
	})
}

func TestASecondUploadOfARunIsRefusedNamingTheStoredRun(t *testing.T) {
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		machine, other := lab.Machine(t), lab.Machine(t)
		lab.Upload(t, machine, document(1)).Want(t, http.StatusCreated)
		stored := lab.find(t, machine).Latest[0]
		for range 3 {
			if failure := refused(t, lab.Upload(t, machine, document(1))); failure.RunID != stored || failure.Error == "" {
				t.Errorf("the repeat is refused with %+v, want run %d to be named", failure, stored)
			}
		}
		lab.Upload(t, other, document(1)).Want(t, http.StatusCreated)
		if latest := lab.find(t, machine).Latest; !slices.Equal(latest, []uint64{stored}) {
			t.Errorf("the machine's runs are %v, want only %d", latest, stored)
		}
	})
}

func TestARepeatUnderItsKeyGetsTheFirstAnswerAndHasNoEffect(t *testing.T) {
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		machine, key := lab.Machine(t), Unique("key")
		for _, ingest := range slices.Repeat(lab.Ingest(), 3) {
			send(t, http.MethodPost, ingest+uploadPath, document(1), "Authorization", machine.Secret, "Idempotency-Key", key).
				Want(t, http.StatusCreated)
		}
		if latest := lab.find(t, machine).Latest; len(latest) != 1 {
			t.Errorf("one upload, sent again under its key, made the runs %v", latest)
		}
		lab.Upload(t, machine, document(2), "Idempotency-Key", key).Want(t, http.StatusUnprocessableEntity)
	})
}

// together sends requests at the same moment and gives their answers in order.
func together(t testing.TB, requests ...func() (Answer, error)) []Answer {
	t.Helper()
	answers, errs := make([]Answer, len(requests)), make([]error, len(requests))
	gate := make(chan struct{})
	var wait sync.WaitGroup
	for i, request := range requests {
		wait.Go(func() {
			<-gate
			answers[i], errs[i] = request()
		})
	}
	close(gate)
	wait.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	return answers
}

// rounds of a race between services.
const rounds = 25

func TestOneOfTwoMachinesThatTakeAnAliasAtTheSameMomentAtDifferentServicesHasIt(t *testing.T) {
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		owner, token := Unique("owner"), lab.Token(t, "operator")
		lab.Admin(t, nil, "admin", "pgperffarm", "user", "set", owner)
		for range rounds {
			alias := Unique("contested")
			add := func(service int) func() (Answer, error) {
				url := lab.Ingest()[service%len(lab.Ingest())] + "/millrace/v1/admin/pgperffarm/machines"
				body := fmt.Appendf(nil, `{"alias": %q, "owner": %q, "approved": true}`, alias, owner)
				return func() (Answer, error) {
					return try(t.Context(), http.MethodPost, url, body, "Authorization", "Bearer "+token, "Content-Type", "application/json")
				}
			}
			winner := onlyWinner(t, together(t, add(0), add(1)), http.StatusCreated, http.StatusConflict)
			var machine Machine
			winner.JSON(t, &machine)
			for service := range lab.Ingest() {
				again, err := add(service)()
				if err != nil {
					t.Fatal(err)
				}
				again.Want(t, http.StatusConflict)
				send(t, http.MethodPost, lab.Ingest()[service]+uploadPath, document(service), "Authorization", machine.Secret).
					Want(t, http.StatusCreated)
			}
			list := slices.DeleteFunc(machines(t, lab.URL()), func(m listed) bool { return m.Alias != alias })
			if len(list) != 1 || list[0].ID != machine.ID {
				t.Fatalf("alias %s is listed as %+v, want machine %d alone", alias, list, machine.ID)
			}
		}
	})
}

func TestOneOfTwoUploadsOfARunAtTheSameMomentAtDifferentServicesIsStored(t *testing.T) {
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		machine := lab.Machine(t)
		for n := range rounds {
			upload := func(service int) func() (Answer, error) {
				url := lab.Ingest()[service%len(lab.Ingest())] + uploadPath
				return func() (Answer, error) {
					return try(t.Context(), http.MethodPost, url, document(n), "Authorization", machine.Secret)
				}
			}
			answers := together(t, upload(0), upload(1))
			onlyWinner(t, answers, http.StatusCreated, http.StatusNotAcceptable)
			stored := lab.find(t, machine).Latest[0]
			for _, answer := range answers {
				if answer.Status == http.StatusNotAcceptable && refused(t, answer).RunID != stored {
					t.Fatalf("the refusal %s names another run than the stored one, %d", answer.Body, stored)
				}
			}
			for service := range lab.Ingest() {
				again, err := upload(service)()
				if err != nil {
					t.Fatal(err)
				}
				if refused(t, again).RunID != stored {
					t.Fatalf("service %d says %s, want run %d to be named", service, again.Body, stored)
				}
			}
		}
		var owned []struct {
			Count int `json:"count"`
		}
		lab.SignIn(t, machine.Owner).Get(t, "/machine/user").Want(t, http.StatusOK).JSON(t, &owned)
		if len(owned) != 1 || owned[0].Count != rounds {
			t.Errorf("the owner's machines are %+v, want one with %d runs", owned, rounds)
		}
	})
}

// onlyWinner gives the one answer that has the status won; all others must have lost.
func onlyWinner(t testing.TB, answers []Answer, won, lost int) Answer {
	t.Helper()
	i := slices.IndexFunc(answers, func(a Answer) bool { return a.Status == won })
	for j, answer := range answers {
		if want := lost; j != i && answer.Status != want || i < 0 {
			t.Fatalf("%s: status %d, %s; want one %d and otherwise %d", answer.Asked, answer.Status, answer.Body, won, lost)
		}
	}
	return answers[i]
}

func TestWhatWasAcknowledgedOutlivesRestartsAndCrashes(t *testing.T) {
	onEveryLab(t, func(t *testing.T, lab *Lab) {
		machine := lab.Machine(t)
		session := lab.SignIn(t, machine.Owner)
		token := lab.Token(t, "operator")
		for n := range 3 {
			lab.Upload(t, machine, document(n)).Want(t, http.StatusCreated)
		}
		lab.Upload(t, machine, largeDocument(3)).Want(t, http.StatusCreated)
		run := lab.find(t, machine).Latest[0]
		paths := []string{
			"/benchmark/overview", "/benchmark/machines", "/machine/list", fmt.Sprintf("/benchmark/history/%d", machine.ID),
			fmt.Sprintf("/benchmark/postgres/%d", machine.ID), fmt.Sprintf("/run/%d", run),
		}
		before := make([]Answer, len(paths))
		for i, path := range paths {
			before[i] = lab.Get(t, path).Want(t, http.StatusOK)
		}
		for i, startAgain := range []func(testing.TB){lab.Restart, lab.Crash} {
			startAgain(t)
			for i, path := range paths {
				if after := lab.Get(t, path).Want(t, http.StatusOK); string(after.Body) != string(before[i].Body) {
					t.Errorf("%s is another after the start: %.300s, was %.300s", path, after.Body, before[i].Body)
				}
			}
			if failure := refused(t, lab.Upload(t, machine, largeDocument(3))); failure.RunID != run {
				t.Errorf("after the start the stored run is not known: %+v, want run %d to be named", failure, run)
			}
			session.Get(t, "/machine/user").Want(t, http.StatusOK)
			lab.Post(t, "/millrace/v1/admin/pgperffarm/users", fmt.Appendf(nil, `{"name": %q}`, machine.Owner),
				"Authorization", "Bearer "+token, "Content-Type", "application/json").Want(t, http.StatusOK)

			fresh := lab.Machine(t)
			lab.Upload(t, fresh, document(10+i)).Want(t, http.StatusCreated)
			lab.Settle(t)
			if next := lab.find(t, fresh).Latest[0]; next <= run {
				t.Errorf("the run stored after the start has id %d, and one before it has %d", next, run)
			}
			for i, path := range paths {
				before[i] = lab.Get(t, path).Want(t, http.StatusOK)
			}
		}
	})
}
