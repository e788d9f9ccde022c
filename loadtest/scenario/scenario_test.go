package scenario

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestEveryScenarioThatComesWithTheHarnessCanBeRun(t *testing.T) {
	names, err := Names()
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{}
	for _, name := range names {
		s, err := Load(name, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		shown[s.kind.common().Kind] = true
	}
	for kind := range kinds() {
		if !shown[kind] {
			t.Errorf("no scenario shows kind %s", kind)
		}
	}
}

const minimal = `
kind: visible
about: what it shows
limit: 1m
target: {start: standalone, machines: 2}
document: small
rates: [10]
in_flight: 8
duration: 5s
`

func TestAFileIsReadWithAllItsKeys(t *testing.T) {
	k, err := parse([]byte(minimal))
	if err != nil {
		t.Fatal(err)
	}
	v := k.(*visible)
	if v.Limit != time.Minute || v.Duration != 5*time.Second || v.Target.Machines != 2 || len(v.Rates) != 1 || v.Rates[0] != 10 {
		t.Errorf("read %+v", v)
	}
}

func TestMistakesInAFileAreRefusedAndNamed(t *testing.T) {
	for name, test := range map[string]struct{ old, new, want string }{
		"unknown key":           {"in_flight", "in_fligth", "in_fligth"},
		"unknown key of target": {"machines: 2", "machine: 2", "machine"},
		"unknown kind":          {"kind: visible", "kind: visibl", `"visibl"`},
		"no kind":               {"kind: visible", "", `""`},
		"wrong type":            {"in_flight: 8", "in_flight: many", "line 8"},
		"no limit":              {"limit: 1m", "", "limit"},
		"no about":              {"about: what it shows", "", "about"},
		"not a time":            {"duration: 5s", "duration: soon", "line 9"},
		"two mistakes":          {"document: small\nrates: [10]", "document: tiny\nrates: [-1]", "rate: -1"},
		"not YAML":              {"rates: [10]", "rates: [10", ""},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(minimal, test.old, test.new, 1)
			if text == minimal {
				t.Fatalf("the file has no %q", test.old)
			}
			_, err := parse([]byte(text))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestEachKindRefusesWhatItCannotDo(t *testing.T) {
	for name, settings := range map[string][]string{
		"append-ratio": {"documents=[]", "connections=[0]", "rounds=0", "at_least=-1", "documents=[{size: tiny, uploads: 1}]"},
		"bounded-log":  {"target.engines=apart", "bound=1", "times=0", "at_most=0", "memory=0", "rate=0", "in_flight=0", "patience=0s", "document=huge"},
		"kill":         {"target.engines=apart", "standalone.kills=-1", "policies=[sometimes]", "policies=[]", "read_back=2", "patience=0s", "rate=0", "document=huge"},
		"metric-rows":  {"target.engines=own", "rows=1", "block=0", "samples=0", "rounds=0"},
		"read-pages":   {"runs=0", "connections=[]", "uploads=[-1]", "duration=0s", "target.machines=1"},
		"replay":       {"target.engines=own", "events=0", "uploads=0", "uploads=1.5", "samples=0", "events=90000000"},
		"trend-100m":   {"target.engines=own", "series=0", "resolutions=[minute]", "every=0s", "span=0s", "rows=1", "connections=[0]", "requests=0"},
		"visible":      {"rates=[0]", "in_flight=0", "duration=0s", "document=huge", "rates=[1,2,3,4,5,6,7]"},
	} {
		for _, setting := range settings {
			if _, err := Load(name, []string{setting}); err == nil {
				t.Errorf("%s takes %s", name, setting)
			}
		}
	}
}

func TestSettingsTakeTheFilesPlace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mine.yaml")
	if err := os.WriteFile(path, []byte(minimal), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Load(path, []string{"target.machines=3", "rates=[1, 2]", "seed=7", "target.settings={processor.interval: 1s}"})
	if err != nil {
		t.Fatal(err)
	}
	v := s.kind.(*visible)
	if s.Name != "mine" || v.Target.Machines != 3 || len(v.Rates) != 2 || v.Seed != 7 || v.Target.Settings["processor.interval"] != "1s" {
		t.Errorf("scenario %s: %+v", s.Name, v)
	}
	for _, setting := range []string{"rates", "rates.first=1", "unknown=1", "rates=[1", "target.settings.processor.interval=1s"} {
		if _, err := Load(path, []string{setting}); err == nil {
			t.Errorf("setting %q is taken", setting)
		}
	}
}

func TestAScenarioThatIsNotThereNamesThoseThatAre(t *testing.T) {
	_, err := Load("killl", nil)
	if err == nil || !strings.Contains(err.Error(), "kill,") {
		t.Errorf("error %v", err)
	}
	if _, err := Load("folder/none.yaml", nil); err == nil {
		t.Error("a file that is not there is read")
	}
}

func TestMedian(t *testing.T) {
	for _, test := range []struct {
		figures []float64
		want    float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 3, 2}, 2.5}} {
		if got := median(test.figures); got != test.want {
			t.Errorf("median of %v is %g, want %g", test.figures, got, test.want)
		}
	}
}

func TestTheReadmeExplainsEveryKey(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, make := range kinds() {
		if !strings.Contains(string(readme), "`"+name) {
			t.Errorf("the README does not know kind %s", name)
		}
		for _, key := range keysOf(reflect.TypeOf(make()).Elem()) {
			if !strings.Contains(string(readme), "`"+key+"`") {
				t.Errorf("the README does not explain %s of kind %s", key, name)
			}
		}
	}
}

// keysOf lists the keys of a file that is read into a type.
func keysOf(t reflect.Type) []string {
	for t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	var keys []string
	for i := range t.NumField() {
		if key, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ","); key != "" {
			keys = append(keys, key)
		}
		keys = append(keys, keysOf(t.Field(i).Type)...)
	}
	return keys
}

func FuzzScenarioFile(f *testing.F) {
	names, err := Names()
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range names {
		s, err := Load(name, nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(s.Text())
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if k, err := parse(text); err == nil && (k.common().Limit <= 0 || k.common().Target.Machines < 1) {
			t.Errorf("a file without limit or machines is taken:\n%s", text)
		}
	})
}
