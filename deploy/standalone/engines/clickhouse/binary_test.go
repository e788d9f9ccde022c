package clickhouse

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// standInCommand makes the test binary a stand-in for a clickhouse binary, of which there is none to download: it reads
// the configuration as the real one does and answers HTTP to whom the users file lets in.
const standInCommand = "stand-in"

func standIn(args []string) error {
	if len(args) != 2 || args[0] != "server" || os.Getenv("CLICKHOUSE_WATCHDOG_ENABLE") != "0" {
		return fmt.Errorf("run as %q with CLICKHOUSE_WATCHDOG_ENABLE=%s", args, os.Getenv("CLICKHOUSE_WATCHDOG_ENABLE"))
	}
	path, _ := strings.CutPrefix(args[1], "--config-file=")
	var config struct {
		Host  string `xml:"listen_host"`
		HTTP  int    `xml:"http_port"`
		Users string `xml:"users_config"`
		Level string `xml:"logger>level"`
	}
	var users struct {
		Millrace struct {
			SHA256 string `xml:"password_sha256_hex"`
		} `xml:"users>millrace"`
		Default *struct{} `xml:"users>default"`
	}
	if err := readXML(path, &config); err != nil {
		return err
	}
	if err := readXML(config.Users, &users); err != nil {
		return err
	}
	if users.Default != nil || config.Level != "warning" {
		return fmt.Errorf("users %+v and log level %q, want no default user and warnings", users, config.Level)
	}
	return http.ListenAndServe(fmt.Sprintf("%s:%d", config.Host, config.HTTP), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if digest := sha256.Sum256([]byte(password)); user != User || hex.EncodeToString(digest[:]) != users.Millrace.SHA256 {
			http.Error(w, "who are you?", http.StatusForbidden)
		}
	}))
}

func readXML(path string, into any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return xml.Unmarshal(text, into)
}

func TestBinaryIsRunAsAServerAndKeptRunning(t *testing.T) {
	folder := filepath.Join(t.TempDir(), `it's <here> & "there"`)
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(t.TempDir(), "clickhouse")
	script := fmt.Sprintf("#!/bin/sh\nexec '%s' %s \"$@\"\n", os.Args[0], standInCommand)
	if err := os.WriteFile(binary, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	deaths := make(chan error, 1)
	s := start(t, Options{Dir: folder, Program: Program{Binary: binary}, OnDeath: func(reason error) { deaths <- reason }})
	child := childOf(t, folder)
	process, err := os.FindProcess(child.PID)
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-deaths
	eventually(t, "an answer of the second process", func() error { return s.ask(t.Context(), "SELECT 1") })
	if childOf(t, folder) == child {
		t.Error("the record still names the dead process")
	}
}
