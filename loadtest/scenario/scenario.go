// Package scenario reads scenario files and runs them: each kind of scenario measures one thing and checks what must hold
// while it does.
package scenario

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/millrace/millrace/loadtest/scenarios"
	"github.com/millrace/millrace/loadtest/target"
)

// Common is what every scenario file says.
type Common struct {
	// Kind is what is measured; the other keys of the file depend on it.
	Kind string `yaml:"kind"`
	// About says it to a person.
	About string `yaml:"about"`
	// Seed fixes everything random.
	Seed uint64 `yaml:"seed"`
	// Limit bounds the whole run.
	Limit  time.Duration `yaml:"limit"`
	Target target.Spec   `yaml:"target"`
}

func (c *Common) common() *Common { return c }

func (c *Common) check() error {
	errs := []error{c.Target.Validate()}
	if c.Limit <= 0 {
		errs = append(errs, fmt.Errorf("limit: %s is no time to run in", c.Limit))
	}
	if c.About == "" {
		errs = append(errs, errors.New("about: say what the scenario shows"))
	}
	return errors.Join(errs...)
}

// Scenario is a scenario file that was read.
type Scenario struct {
	Name string
	kind kind
	// text is the file as it is run.
	text []byte
}

// kind is one kind of scenario.
type kind interface {
	common() *Common
	// validate reports every mistake in the kind's own keys.
	validate() error
	run(l *lab) error
}

// kinds makes an empty scenario of each kind.
func kinds() map[string]func() kind {
	return map[string]func() kind{
		"append-ratio": func() kind { return &appendRatio{} },
		"bounded-log":  func() kind { return &boundedLog{} },
		"job-rates":    func() kind { return &jobRates{} },
		"kill":         func() kind { return &kill{} },
		"metric-rows":  func() kind { return &metricRows{} },
		"read-pages":   func() kind { return &readPages{} },
		"replay":       func() kind { return &replay{} },
		"trend":        func() kind { return &trend{} },
		"visible":      func() kind { return &visible{} },
	}
}

// About says what the scenario shows.
func (s *Scenario) About() string { return s.kind.common().About }

// Text is the file.
func (s *Scenario) Text() []byte { return s.text }

// Names lists the scenarios that come with the harness.
func Names() ([]string, error) {
	files, err := fs.Glob(scenarios.Files(), "*.yaml")
	if err != nil {
		return nil, fmt.Errorf("list the scenarios: %w", err)
	}
	for i, file := range files {
		files[i] = strings.TrimSuffix(file, ".yaml")
	}
	return files, nil
}

// Load reads a scenario: a file's path, or the name of one that comes with the harness. Each setting is KEY=VALUE, where
// KEY names a key of the file, with dots between levels, and takes the file's place for it.
func Load(name string, settings []string) (*Scenario, error) {
	text, err := read(name)
	if err != nil {
		return nil, err
	}
	if text, err = override(text, settings); err != nil {
		return nil, fmt.Errorf("scenario %s: %w", name, err)
	}
	k, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("scenario %s: %w", name, err)
	}
	return &Scenario{Name: strings.TrimSuffix(filepath.Base(name), ".yaml"), kind: k, text: text}, nil
}

func read(name string) ([]byte, error) {
	if strings.ContainsRune(name, os.PathSeparator) || strings.HasSuffix(name, ".yaml") {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read the scenario: %w", err)
		}
		return text, nil
	}
	text, err := fs.ReadFile(scenarios.Files(), name+".yaml")
	if err != nil {
		names, _ := Names()
		return nil, fmt.Errorf("there is no scenario %q; there are %s, and files by their path", name, strings.Join(names, ", "))
	}
	return text, nil
}

// parse reads a scenario file. A key that its kind does not know is a mistake.
func parse(text []byte) (kind, error) {
	var head struct {
		Kind string `yaml:"kind"`
	}
	if err := yaml.Unmarshal(text, &head); err != nil {
		return nil, err
	}
	make, known := kinds()[head.Kind]
	if !known {
		return nil, fmt.Errorf("kind %q is none of %s", head.Kind, strings.Join(slices.Sorted(maps.Keys(kinds())), ", "))
	}
	k := make()
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(k); err != nil {
		return nil, err
	}
	return k, errors.Join(k.common().check(), k.validate())
}

// override puts settings into a file.
func override(text []byte, settings []string) ([]byte, error) {
	if len(settings) == 0 {
		return text, nil
	}
	var file map[string]any
	if err := yaml.Unmarshal(text, &file); err != nil {
		return nil, err
	}
	for _, setting := range settings {
		key, value, found := strings.Cut(setting, "=")
		if !found {
			return nil, fmt.Errorf("setting %q is not KEY=VALUE", setting)
		}
		var parsed any
		if err := yaml.Unmarshal([]byte(value), &parsed); err != nil {
			return nil, fmt.Errorf("setting %s: %w", key, err)
		}
		if err := set(file, strings.Split(key, "."), parsed); err != nil {
			return nil, fmt.Errorf("setting %s: %w", key, err)
		}
	}
	return yaml.Marshal(file)
}

func set(file map[string]any, path []string, value any) error {
	for _, key := range path[:len(path)-1] {
		inner, isMap := file[key].(map[string]any)
		if file[key] == nil {
			inner, isMap = map[string]any{}, true
			file[key] = inner
		}
		if !isMap {
			return fmt.Errorf("%s holds no further keys", key)
		}
		file = inner
	}
	file[path[len(path)-1]] = value
	return nil
}
