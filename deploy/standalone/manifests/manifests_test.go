// Package manifests holds the ways to deploy Millrace, for Kubernetes and Compose, to the settings that there are.
package manifests

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/millrace/millrace/deploy/standalone/app"
	"github.com/millrace/millrace/deploy/standalone/config"
)

const (
	kubernetes  = "../../kubernetes"
	composeFile = "../../../docker-compose.yml"
	dockerfile  = "../../../Dockerfile"
)

// labels of a Kubernetes object.
type labels map[string]string

// matches tells whether a selector of these labels selects an object.
func (l labels) matches(object labels) bool {
	for name, value := range l {
		if object[name] != value {
			return false
		}
	}
	return len(l) > 0
}

// named is an object or a reference to one.
type named struct{ Name string }

// manifest is a Kubernetes object, as far as the tests look at it.
type manifest struct {
	Kind       string
	Metadata   named
	Data       map[string]string
	StringData map[string]string `yaml:"stringData"`
	Spec       struct {
		Selector map[string]any // of a Service the labels themselves
		Ports    []struct{ Port int }
		Template struct {
			Metadata struct{ Labels labels }
			Spec     struct {
				Containers []container
				Volumes    []volume
			}
		}
	}
}

type container struct {
	Args           []string
	Env            []struct{ Name, Value string }
	EnvFrom        []map[string]named `yaml:"envFrom"` // by configMapRef or secretRef
	StartupProbe   probe              `yaml:"startupProbe"`
	LivenessProbe  probe              `yaml:"livenessProbe"`
	ReadinessProbe probe              `yaml:"readinessProbe"`
	VolumeMounts   []named            `yaml:"volumeMounts"`
}

type volume struct {
	Name  string
	Claim struct {
		Name string `yaml:"claimName"`
	} `yaml:"persistentVolumeClaim"`
}

type probe struct {
	HTTPGet struct{ Path string } `yaml:"httpGet"`
}

// selector gives the labels that an object selects.
func (m *manifest) selector() labels {
	selected := m.Spec.Selector
	if inner, ok := selected["matchLabels"].(map[string]any); ok {
		selected = inner
	}
	l := labels{}
	for name, value := range selected {
		l[name], _ = value.(string)
	}
	return l
}

// manifests reads what kustomization.yaml lists, by kind and name.
func manifests(t *testing.T) map[string]*manifest {
	t.Helper()
	var list struct{ Resources []string }
	readYAML(t, filepath.Join(kubernetes, "kustomization.yaml"), &list)
	files, err := filepath.Glob(filepath.Join(kubernetes, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(list.Resources)+1 {
		t.Errorf("kustomization.yaml lists %d of %d files", len(list.Resources), len(files)-1)
	}
	found := map[string]*manifest{}
	for _, name := range list.Resources {
		content, err := os.ReadFile(filepath.Join(kubernetes, name))
		if err != nil {
			t.Fatal(err)
		}
		decoder := yaml.NewDecoder(bytes.NewReader(content))
		for {
			m := &manifest{}
			if err := decoder.Decode(m); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			found[m.Kind+"/"+m.Metadata.Name] = m
		}
	}
	return found
}

func readYAML(t *testing.T, file string, into any) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(content, into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// deployments gives the Deployments, one for each service.
func deployments(t *testing.T, objects map[string]*manifest) map[string]*manifest {
	t.Helper()
	found := map[string]*manifest{}
	for _, m := range objects {
		if m.Kind == "Deployment" {
			found[m.Metadata.Name] = m
		}
	}
	if want := serviceNames(); !slices.Equal(slices.Sorted(maps.Keys(found)), want) {
		t.Fatalf("there are deployments of %v, want %v", slices.Sorted(maps.Keys(found)), want)
	}
	return found
}

func serviceNames() []string {
	names := []string{string(app.Ingest), string(app.Processor), string(app.Query), string(app.Proxy)}
	slices.Sort(names)
	return names
}

func TestKubernetesManifestsReferToWhatThereIs(t *testing.T) {
	objects := manifests(t)
	for name, m := range deployments(t, objects) {
		c, volumes := m.Spec.Template.Spec.Containers[0], m.Spec.Template.Spec.Volumes
		if !slices.Equal(c.Args, []string{name}) {
			t.Errorf("%s runs millrace %v", name, c.Args)
		}
		if !m.selector().matches(m.Spec.Template.Metadata.Labels) {
			t.Errorf("%s selects %v, and its pods are %v", name, m.selector(), m.Spec.Template.Metadata.Labels)
		}
		paths := []string{c.StartupProbe.HTTPGet.Path, c.LivenessProbe.HTTPGet.Path, c.ReadinessProbe.HTTPGet.Path}
		if !slices.Equal(paths, []string{"/healthz", "/healthz", "/readyz"}) {
			t.Errorf("%s is probed at %v", name, paths)
		}
		for _, v := range volumes {
			if v.Claim.Name != "" && objects["PersistentVolumeClaim/"+v.Claim.Name] == nil {
				t.Errorf("%s claims %s, which is not there", name, v.Claim.Name)
			}
		}
		for _, mount := range c.VolumeMounts {
			if !slices.ContainsFunc(volumes, func(v volume) bool { return v.Name == mount.Name }) {
				t.Errorf("%s mounts %s, which is no volume", name, mount.Name)
			}
		}
		if objects["PodDisruptionBudget/"+name] == nil {
			t.Errorf("%s has no disruption budget", name)
		}
	}
	for key, m := range objects {
		if m.Kind != "Service" && m.Kind != "PodDisruptionBudget" {
			continue
		}
		if target := objects["Deployment/"+m.Metadata.Name]; target == nil || !m.selector().matches(target.Spec.Template.Metadata.Labels) {
			t.Errorf("%s selects no pod of %s", key, m.Metadata.Name)
		}
	}
}

// checkSettings holds an environment to the settings that there are, and to their rules.
func checkSettings(t *testing.T, whose string, environment map[string]string) config.Config {
	t.Helper()
	var entries []string
	for name, value := range environment {
		entries = append(entries, name+"="+value)
		if strings.HasPrefix(name, "MILLRACE_") && !slices.ContainsFunc(config.Settings(), func(s config.Setting) bool { return s.Variable == name }) {
			t.Errorf("%s: there is no setting %s", whose, name)
		}
	}
	c, err := config.Load(entries)
	if err != nil {
		t.Errorf("%s: %v", whose, err)
	}
	return c
}

// imageSettings are those of the Dockerfile's ENV.
func imageSettings(t *testing.T) map[string]string {
	t.Helper()
	content, err := os.ReadFile(dockerfile)
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	for _, found := range regexp.MustCompile(`\b(MILLRACE_[A-Z_]+)=(\S+)`).FindAllStringSubmatch(string(content), -1) {
		settings[found[1]] = found[2]
	}
	if len(settings) == 0 {
		t.Fatal("the Dockerfile sets nothing")
	}
	return settings
}

func TestKubernetesSettingsAreSoundAndComplete(t *testing.T) {
	objects := manifests(t)
	for name, m := range deployments(t, objects) {
		environment, c := imageSettings(t), m.Spec.Template.Spec.Containers[0]
		for _, from := range c.EnvFrom {
			for kind, source := range map[string]string{"configMapRef": "ConfigMap", "secretRef": "Secret"} {
				if from[kind].Name == "" {
					continue
				}
				values := objects[source+"/"+from[kind].Name]
				if values == nil {
					t.Fatalf("%s takes settings from the %s %s, which is not there", name, source, from[kind].Name)
				}
				maps.Copy(environment, values.Data)
				maps.Copy(environment, values.StringData)
			}
		}
		for _, entry := range c.Env {
			environment[entry.Name] = entry.Value
		}
		wantServiceSettings(t, name, checkSettings(t, name, environment), func(host string) bool {
			service := objects["Service/"+strings.TrimSuffix(host, ":8080")]
			return service != nil && fmt.Sprintf("%s:%d", service.Metadata.Name, service.Spec.Ports[0].Port) == host
		})
	}
}

// wantServiceSettings checks what each service cannot do without.
func wantServiceSettings(t *testing.T, name string, c config.Config, there func(host string) bool) {
	t.Helper()
	if name != string(app.Proxy) {
		if c.Kafka == "" || c.ClickHouse == "" || c.Redis == "" || c.KeyFile == "" || c.Blob == "" {
			t.Errorf("%s has not all engines, key and blob store: %+v", name, c)
		}
		return
	}
	for _, upstream := range []string{c.Proxy.Ingest, c.Proxy.Query} {
		if u, err := url.Parse(upstream); err != nil || !there(u.Host) {
			t.Errorf("the proxy leads to %s, which is not there", upstream)
		}
	}
}

// interpolated is ${NAME:-default} as it comes out when nothing is set.
var interpolated = regexp.MustCompile(`\$\{[A-Z_]+(?::-([^}]*))?\}`)

func TestComposeSettingsAreSoundAndComplete(t *testing.T) {
	var file struct {
		Services map[string]struct {
			Command     any
			Environment map[string]*string
			Healthcheck map[string]any
			DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
		}
	}
	readYAML(t, composeFile, &file)
	for _, name := range serviceNames() {
		service, found := file.Services[name]
		if !found || fmt.Sprint(service.Command) != "["+name+"]" {
			t.Errorf("%s is there: %t, and runs %v", name, found, service.Command)
		}
		environment := imageSettings(t)
		for variable, value := range service.Environment {
			environment[variable] = "" // passed on from where compose runs
			if value != nil {
				environment[variable] = interpolated.ReplaceAllString(*value, "$1")
			}
		}
		wantServiceSettings(t, name, checkSettings(t, name, environment), func(host string) bool {
			_, found := file.Services[strings.TrimSuffix(host, ":8080")]
			return found
		})
		for needed, how := range service.DependsOn {
			if _, found := file.Services[needed]; !found || how.Condition != "service_healthy" {
				t.Errorf("%s waits for %s until %q, want a service that is healthy", name, needed, how.Condition)
			}
		}
	}
	for name, service := range file.Services {
		if service.Healthcheck == nil && !slices.Contains(serviceNames(), name) { // those have the image's
			t.Errorf("%s has no health check", name)
		}
	}
}
