package target

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestValidateReportsEveryMistake(t *testing.T) {
	standalone := Spec{Start: "standalone", Machines: 1}
	for want, change := range map[string]func(*Spec){
		"":                         func(*Spec) {},
		"start: \"cluster\"":       func(s *Spec) { s.Start = "cluster" },
		"either start or url":      func(s *Spec) { s.Start = "" },
		"engines: \"none\"":        func(s *Spec) { s.Engines = "none" },
		"machines: 0":              func(s *Spec) { s.Machines = 0 },
		"data is for":              func(s *Spec) { s.Data = "data" },
		"data: name the":           func(s *Spec) { s.Start, s.URL = "", "http://127.0.0.1:8080" },
		"only loopback":            func(s *Spec) { s.Start, s.URL, s.Data = "", "http://192.0.2.1:8080", "data" },
		"is not http://HOST:PORT":  func(s *Spec) { s.Start, s.URL, s.Data = "", "127.0.0.1:8080", "data" },
		"engines and settings are": func(s *Spec) { s.Start, s.URL, s.Data, s.Engines = "", "http://localhost:1", "data", "own" },
	} {
		spec := standalone
		change(&spec)
		err := spec.Validate()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%+v: error %v, want one with %q", spec, err, want)
		}
	}
}

func TestParseStatReadsNamesWithParentheses(t *testing.T) {
	for text, want := range map[string]struct {
		pid, parent int
		ok          bool
	}{
		"12 (millrace) S 1 12 12 0":      {12, 1, true},
		"13 (a) R (b)) S 12 12 12 0":     {13, 12, true},
		"14 (millrace) Z 12 12 12 0":     {0, 0, false},
		"":                               {0, 0, false},
		"x (millrace) S 1 1":             {0, 0, false},
		"15 (millrace) S":                {0, 0, false},
		") 16 (":                         {0, 0, false},
		"17 (millrace) S y 12 12 0 -1 4": {17, 0, false},
	} {
		pid, parent, ok := parseStat(text)
		if ok != want.ok || ok && (pid != want.pid || parent != want.parent) {
			t.Errorf("%q: process %d of %d (%t), want %d of %d (%t)", text, pid, parent, ok, want.pid, want.parent, want.ok)
		}
	}
}

func TestProcessorTimeIsReadBehindTheName(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"12 (a) b) S 1 12 12 0 -1 4194560 1 2 3 4 250 30 7 8 20 0": 2800 * time.Millisecond,
		"12 (a) S 1 12 12 0 -1 4194560 1 2 3 4 x 30 7 8 20 0":      0,
		"12 (a) S 1": 0,
		"":           0,
	} {
		if got := parseCPU(text); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("12 (millrace) S 1 12 12 0")
	f.Add("13 (a) R (b)) S 12 12 12 0")
	f.Fuzz(func(t *testing.T, text string) {
		parseCPU(text)
		if pid, _, ok := parseStat(text); ok && !strings.Contains(text, "(") {
			t.Errorf("%q gives process %d", text, pid)
		}
	})
}

// child runs a shell that waits for its input's end.
func child(t *testing.T, script string) *Process {
	t.Helper()
	cmd := exec.Command("sh", "-c", script)
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p, err := startProcess(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = input.Close()
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func TestAProcessIsKilledAtOnce(t *testing.T) {
	p := child(t, "trap '' INT TERM; echo; read line")
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Ended():
	default:
		t.Error("the process is still there")
	}
	if err := p.Kill(); err != nil {
		t.Errorf("a process that has ended cannot be killed: %v", err)
	}
}

func TestAProcessThatIgnoresAnInterruptIsKilled(t *testing.T) {
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command("sh", "-c", "trap '' INT; echo ready; read line")
	cmd.Stdout = in
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer input.Close()
	p, err := startProcess(cmd)
	if err != nil {
		t.Fatal(err)
	}
	_ = in.Close()
	if _, err := out.Read(make([]byte, 10)); err != nil { // the trap is set
		t.Fatal(err)
	}
	if err := p.Stop(context.Background(), 50*time.Millisecond); err == nil || !strings.Contains(err.Error(), "did not end") {
		t.Errorf("error %v, want that it did not end", err)
	}
	<-p.Ended()
}

func TestAChildIsFoundByItsParentAndItsCommandLine(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("there is no /proc")
	}
	p := child(t, "read line")
	pid, err := childOf(os.Getpid(), "read line")
	if err != nil || pid != p.PID() {
		t.Errorf("found process %d: %v; want %d", pid, err, p.PID())
	}
	if _, err := childOf(p.PID(), "read line"); !errors.Is(err, ErrNoChild) {
		t.Errorf("a process without children: %v", err)
	}
}

func TestAMissingProgramSaysHowToGetIt(t *testing.T) {
	_, err := Programs{Folder: t.TempDir()}.Path("millrace")
	if err == nil || !strings.Contains(err.Error(), "make") {
		t.Errorf("error %v", err)
	}
}

// helper makes a program out of a shell script.
func helper(t *testing.T, script string) Programs {
	t.Helper()
	folder := t.TempDir()
	if err := os.WriteFile(folder+"/helper", []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	return Programs{Folder: folder}
}

func TestAHelperGivesItsAddressesAndEndsWithItsInput(t *testing.T) {
	h, err := StartHelper(t.Context(), helper(t, "echo starting; echo A=http://$1=x; echo B=2; read line; exit 0"), "helper",
		[]string{"argument"}, os.Stderr, "A", "B")
	if err != nil {
		t.Fatal(err)
	}
	if h.Values["A"] != "http://argument=x" || h.Values["B"] != "2" {
		t.Errorf("values %v", h.Values)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}

func TestAHelperThatEndsEarlyIsAnError(t *testing.T) {
	_, err := StartHelper(t.Context(), helper(t, "echo A=1"), "helper", nil, os.Stderr, "A", "B")
	if err == nil || !strings.Contains(err.Error(), "it did not say A, B") {
		t.Errorf("error %v", err)
	}
}

func TestTheTargetsEnvironmentHasNoSettingsOfThisProcess(t *testing.T) {
	t.Setenv("MILLRACE_KAFKA", "elsewhere:9092")
	environ := strings.Join((&Target{data: "folder"}).baseEnviron(), "\n")
	if strings.Contains(environ, "elsewhere") || !strings.Contains(environ, "MILLRACE_DATA=folder") {
		t.Error("the target would use this process's engines")
	}
}
