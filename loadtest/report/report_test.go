package report

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func result() *Result {
	r := &Result{Scenario: "kill", Kind: "kill", Seed: 3, Started: time.Now(), Machine: ThisMachine()}
	table := r.Table("Kills", "victim", "kills")
	table.Row("standalone", "100")
	r.Figure("kill.kills", 100, "")
	r.Promise("nothing is lost", true, nil, "%d lost", 0)
	return r
}

func TestAResultIsGoodWhenEveryPromiseIsKept(t *testing.T) {
	r := result()
	r.Finish(nil)
	if !r.OK {
		t.Error("the result is not good")
	}
	r.Promise("nothing counts twice", false, []string{"upload 1"}, "%d twice", 1)
	r.Finish(nil)
	if r.OK {
		t.Error("a broken promise leaves the result good")
	}
}

func TestAResultThatEndedEarlyIsNotGood(t *testing.T) {
	r := result()
	r.Finish(errors.New("the target went away"))
	if r.OK || r.Error != "the target went away" {
		t.Errorf("ok %t, error %q", r.OK, r.Error)
	}
}

func TestAPersonSeesTablesAndPromises(t *testing.T) {
	r := result()
	r.Promise("nothing counts twice", false, nil, "%d twice", 1)
	r.Finish(nil)
	var out strings.Builder
	if err := r.Print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"standalone    100", "kept    nothing is lost: 0 lost", "BROKEN  nothing counts twice: 1 twice", "seed 3"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, out.String())
		}
	}
}

func TestAProgramReadsTheResultAsJSON(t *testing.T) {
	r := result()
	r.Finish(nil)
	path := filepath.Join(t.TempDir(), "result.json")
	if err := r.WriteJSON(path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var read struct {
		OK      bool `json:"ok"`
		Seed    int  `json:"seed"`
		Machine struct {
			CPUs int `json:"cpus"`
		} `json:"machine"`
		Figures []Figure `json:"figures"`
	}
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	if !read.OK || read.Seed != 3 || read.Machine.CPUs == 0 || len(read.Figures) != 1 || read.Figures[0].Value != 100 {
		t.Errorf("read %+v", read)
	}
}

func TestProgressElsewhereThanOnATerminalTellsThePhases(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "progress"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	p := NewProgress(file)
	p.Phase("starting", nil)
	p.Phase("killing", func() string { return "3 of 4" })
	p.show()
	p.Close()
	text, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != "starting\nkilling\nkilling, 0 s: 3 of 4\n" {
		t.Errorf("progress is %q", text)
	}
}
