// Package target is the Millrace that is measured: one that runs already, or a standalone one that is started for the
// purpose in a folder of its own, with machines that may upload.
package target

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Spec is the section "target" of a scenario file.
type Spec struct {
	// Start is "standalone" to start one; URL is where one runs already. One of the two is given.
	Start string `yaml:"start"`
	URL   string `yaml:"url"`
	// Data is the data folder of the one at URL: its operator's socket registers the machines.
	Data string `yaml:"data"`
	// Engines is "own" (the default) when the standalone brings its engines, "apart" when they run in a process beside it,
	// where the harness reaches them too.
	Engines string `yaml:"engines"`
	// Machines is how many machines are registered.
	Machines int `yaml:"machines"`
	// Settings of the standalone by their keys in Millrace's settings file.
	Settings map[string]string `yaml:"settings"`
}

// Validate reports every mistake.
func (s *Spec) Validate() error {
	var errs []error
	bad := func(wrong bool, format string, args ...any) {
		if wrong {
			errs = append(errs, fmt.Errorf("target: "+format, args...))
		}
	}
	bad(s.Start != "" && s.Start != "standalone", "start: %q is not standalone", s.Start)
	bad((s.Start == "") == (s.URL == ""), "give either start or url")
	bad(s.Engines != "" && s.Engines != "own" && s.Engines != "apart", "engines: %q is neither own nor apart", s.Engines)
	bad(s.URL != "" && (s.Engines != "" || len(s.Settings) > 0), "engines and settings are for a standalone that is started here")
	bad(s.URL != "" && s.Data == "", "data: name the data folder of the Millrace at url, whose operator's socket registers machines")
	bad(s.Start != "" && s.Data != "", "data is for a Millrace that runs already; one that is started here gets a new folder")
	bad(s.Machines < 1 || s.Machines > 1000, "machines: %d is not between 1 and 1000", s.Machines)
	if s.URL != "" {
		errs = append(errs, checkLoopback(s.URL))
	}
	return errors.Join(errs...)
}

// checkLoopback keeps a harness that is meant for this machine from being pointed at somebody else's.
func checkLoopback(text string) error {
	parsed, err := url.Parse(text)
	if err != nil || parsed.Scheme != "http" || parsed.Host == "" {
		return fmt.Errorf("target: url: %q is not http://HOST:PORT", text)
	}
	switch parsed.Hostname() {
	case "127.0.0.1", "::1", "localhost":
		return nil
	}
	return fmt.Errorf("target: url: %s is another machine; only loopback addresses are loaded", parsed.Hostname())
}

// Machine is a registered, approved machine.
type Machine struct {
	ID     uint64 `json:"machine_id"`
	Alias  string `json:"alias"`
	Secret string `json:"secret"`
}

// Target is a Millrace that answers.
type Target struct {
	// URL is its root, Host its host:port.
	URL, Host string
	Machines  []Machine
	// Token may read and write /millrace/v1.
	Token string
	// Kafka and ClickHouse are the addresses of engines that run apart; empty otherwise.
	Kafka, ClickHouse string

	programs   Programs
	data       string
	environ    []string
	standalone *Process
	engines    *Helper
	log        *os.File
}

// Programs says where the programs are that a harness starts.
type Programs struct{ Folder string }

// Path gives a program's path, or says how to get it.
func (p Programs) Path(name string) (string, error) {
	path := filepath.Join(p.Folder, name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("program %s is missing: build it with make, or name the folder with --bin: %w", name, err)
	}
	return path, nil
}

// readyTimeout bounds a start: the first one fetches ClickHouse.
const readyTimeout = 5 * time.Minute

// Open starts or finds a Millrace and registers its machines. folder is where its data and logs go. Close ends what was
// started, also after an error.
func Open(ctx context.Context, spec Spec, programs Programs, folder string) (*Target, error) {
	t := &Target{programs: programs, data: spec.Data, URL: strings.TrimSuffix(spec.URL, "/")}
	if err := t.open(ctx, spec, folder); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

func (t *Target) open(ctx context.Context, spec Spec, folder string) error {
	if spec.Start != "" {
		if err := t.prepare(ctx, spec, folder); err != nil {
			return err
		}
		if err := t.Start(); err != nil {
			return err
		}
	}
	t.Host = strings.TrimPrefix(t.URL, "http://")
	ready, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := t.AwaitReady(ready); err != nil {
		return err
	}
	return t.register(ctx, spec.Machines)
}

// AwaitReady waits until the target says that it is ready.
func (t *Target) AwaitReady(ctx context.Context) error {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := ready(ctx, client, t.URL+"/readyz")
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w", t.URL, err)
		case <-t.ended():
			return fmt.Errorf("the standalone ended before it was ready; its log is %s", t.log.Name())
		case <-ticker.C:
		}
	}
}

func ready(ctx context.Context, client *http.Client, address string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 1000)) // what there is of it explains the status
		return fmt.Errorf("%s: %s", response.Status, strings.TrimSpace(string(text)))
	}
	return nil
}

// Close ends what Open started.
func (t *Target) Close() error {
	var errs []error
	if t.standalone != nil {
		errs = append(errs, t.standalone.Stop(context.Background(), 30*time.Second))
	}
	if t.engines != nil {
		errs = append(errs, t.engines.Close())
	}
	if t.log != nil {
		errs = append(errs, t.log.Close())
	}
	return errors.Join(errs...)
}
