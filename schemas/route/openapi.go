package route

import (
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

type document struct {
	OpenAPI    string                           `json:"openapi"`
	Info       info                             `json:"info"`
	Tags       []tag                            `json:"tags"`
	Paths      map[string]map[string]*operation `json:"paths"`
	Components components                       `json:"components"`
}

type info struct {
	Title   string  `json:"title"`
	Version string  `json:"version"`
	License license `json:"license"`
}

type license struct {
	Name       string `json:"name"`
	Identifier string `json:"identifier"`
}

type tag struct {
	Name string `json:"name"`
}

type operation struct {
	ID        string                `json:"operationId"`
	Tags      []string              `json:"tags"`
	Summary   string                `json:"summary"`
	Contract  string                `json:"x-contract,omitzero"`
	Access    []string              `json:"x-access"`
	Params    []parameter           `json:"parameters,omitzero"`
	Body      *requestBody          `json:"requestBody,omitzero"`
	Responses map[string]*response  `json:"responses"`
	Security  []map[string][]string `json:"security,omitzero"`
}

type parameter struct {
	Name        string  `json:"name"`
	In          Place   `json:"in"`
	Description string  `json:"description"`
	Required    bool    `json:"required,omitzero"`
	Schema      *schema `json:"schema"`
}

type requestBody struct {
	Description string           `json:"description"`
	Required    bool             `json:"required"`
	Content     map[string]media `json:"content"`
}

type media struct {
	Schema *schema `json:"schema,omitzero"`
}

type response struct {
	Description string           `json:"description"`
	Content     map[string]media `json:"content,omitzero"`
}

type components struct {
	Schemas  map[string]*schema        `json:"schemas"`
	Security map[string]securityScheme `json:"securitySchemes"`
}

type securityScheme struct {
	Type        string `json:"type"`
	Description string `json:"description"`
	Name        string `json:"name,omitzero"`
	In          string `json:"in,omitzero"`
	Scheme      string `json:"scheme,omitzero"`
}

var securitySchemes = map[string]securityScheme{
	"debciKey":          {Type: "apiKey", In: "header", Name: "Auth-Key", Description: "A key of a debci user."},
	"machineSecret":     {Type: "apiKey", In: "header", Name: "Authorization", Description: "The machine's secret alone, without a scheme word."},
	"session":           {Type: "apiKey", In: "cookie", Name: "sessionid", Description: "The cookie that a login sets."},
	"testflingerSecret": {Type: "http", Scheme: "basic", Description: "The id of a client of Testflinger's, and its secret."},
	"testflinger":       {Type: "http", Scheme: "bearer", Description: "A token from POST /v1/oauth2/token; its client has a role."},
	"token":             {Type: "http", Scheme: "bearer", Description: "A token of role viewer, writer or operator; each role includes those before it."},
}

// OpenAPI describes the tables as an OpenAPI 3.1 document in JSON. Equal tables
// give equal bytes. HEAD, and the second form of a path that Slash adds, are
// equals of what is described and not listed again.
func OpenAPI(title, version string, routes []Route) ([]byte, error) {
	if err := Validate(routes); err != nil {
		return nil, fmt.Errorf("describe routes: %w", err)
	}
	d := describer{schemas: newSchemas(), used: map[string]bool{}, doc: document{
		OpenAPI:    "3.1.0",
		Info:       info{Title: title, Version: version, License: license{"Apache License 2.0", "Apache-2.0"}},
		Paths:      map[string]map[string]*operation{},
		Components: components{Security: map[string]securityScheme{}},
	}}
	for i := range routes {
		d.add(&routes[i])
	}
	d.doc.Components.Schemas = d.schemas.components
	text, err := json.Marshal(&d.doc, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		return nil, fmt.Errorf("encode the OpenAPI document: %w", err)
	}
	return text, nil
}

// describer builds one document.
type describer struct {
	doc     document
	schemas *schemas
	used    map[string]bool // operation ids
}

func (d *describer) add(r *Route) {
	path := openPath(r.Path)
	if d.doc.Paths[path] == nil {
		d.doc.Paths[path] = map[string]*operation{}
	}
	if !slices.Contains(d.doc.Tags, tag{r.API}) {
		d.doc.Tags = append(d.doc.Tags, tag{r.API})
	}
	d.doc.Paths[path][strings.ToLower(r.Method)] = &operation{
		ID: d.operationID(r), Tags: []string{r.API}, Summary: r.Summary, Contract: r.Contract, Access: r.Access.names(),
		Params: d.params(r), Body: d.body(r), Responses: d.responses(r), Security: d.security(r.Access),
	}
}

// openPath writes a gin pattern the OpenAPI way.
func openPath(pattern string) string {
	segments := strings.Split(pattern, "/")
	for i, segment := range segments {
		if segment != "" && (segment[0] == ':' || segment[0] == '*') {
			segments[i] = "{" + segment[1:] + "}"
		}
	}
	return strings.Join(segments, "/")
}

var notWord = regexp.MustCompile(`[^a-zA-Z0-9]+`)

func (d *describer) operationID(r *Route) string {
	base := strings.Trim(notWord.ReplaceAllString(strings.ToLower(r.Method)+r.Path, "_"), "_")
	id := base
	for i := 2; d.used[id]; i++ {
		id = base + "_" + strconv.Itoa(i)
	}
	d.used[id] = true
	return id
}

func (d *describer) params(r *Route) []parameter {
	var list []parameter
	for i := range r.Params {
		p := &bound{&r.Params[i], r.place(&r.Params[i])}
		list = append(list, parameter{Name: p.Name, In: p.place, Description: p.Description, Required: p.demanded(), Schema: p.schema()})
	}
	return list
}

func (p *bound) schema() *schema {
	s := &schema{Type: string(p.Type), Enum: p.Enum, MaxLength: p.MaxLength}
	switch p.Type {
	case "":
		s.Type = "string"
	case Time:
		s.Type, s.Format = "string", "date-time"
	case Integer:
		s.Format, s.Minimum = "int64", &p.Min
		if most := p.max(); p.Max != 0 || p.Min < 0 {
			s.Maximum = &most
		}
	}
	if p.Default != "" {
		s.Default = p.defaultValue()
	}
	if p.Repeated {
		return &schema{Type: "array", Items: s}
	}
	return s
}

// defaultValue gives the default in the parameter's own type.
func (p *bound) defaultValue() any {
	switch p.Type {
	case Integer, Number, Boolean:
		return jsontext.Value(p.Default)
	}
	return p.Default
}

func (d *describer) body(r *Route) *requestBody {
	if r.Body == nil {
		return nil
	}
	types := r.ContentTypes
	if len(types) == 0 {
		types = []string{"application/json"}
	}
	content := make(map[string]media, len(types))
	for _, mediaType := range types {
		content[mediaType] = d.media(mediaType, r.Body)
	}
	text := fmt.Sprintf("At most %d bytes.", r.BodyLimit)
	if r.GzipLimit > 0 {
		text += fmt.Sprintf(" Content-Encoding gzip is accepted, at most %d bytes when decoded.", r.GzipLimit)
	}
	return &requestBody{Description: text, Required: true, Content: content}
}

// media describes a sample in a media type. Bytes outside of JSON are themselves.
func (d *describer) media(mediaType string, sample any) media {
	t := reflect.TypeOf(sample)
	if t == reflect.TypeFor[[]byte]() && mediaType != "application/json" {
		return media{}
	}
	return media{Schema: d.schemas.of(t)}
}

func (d *describer) responses(r *Route) map[string]*response {
	list := map[string]*response{}
	for i := range r.Answers {
		a := &r.Answers[i]
		status := strconv.Itoa(a.Status)
		if list[status] == nil {
			list[status] = &response{}
		}
		d.describe(list[status], a)
	}
	d.addOwn(list, r)
	return list
}

// describe adds an answer to what is said of its status.
func (d *describer) describe(said *response, a *Answer) {
	text := a.Description
	if text == "" {
		text = http.StatusText(a.Status)
	}
	said.Description = strings.TrimSpace(said.Description + " " + text)
	if a.Body == nil {
		return
	}
	mediaType := a.ContentType
	if mediaType == "" {
		mediaType = "application/json"
	}
	if said.Content == nil {
		said.Content = map[string]media{}
	}
	said.Content[mediaType] = d.media(mediaType, a.Body)
}

// addOwn adds the answers that come from the mounting and from no handler.
func (d *describer) addOwn(list map[string]*response, r *Route) {
	if r.BodyLimit > 0 && list["413"] == nil {
		list["413"] = &response{Description: "The body is over the limit."}
	}
	if r.Side != Each && list["503"] == nil {
		list["503"] = &response{Description: "Overloaded, or an engine is missing; Retry-After says when to try again."}
	}
}

// security lists the ways to be let in; any one is enough.
func (d *describer) security(access Access) []map[string][]string {
	if access == Anyone {
		return nil
	}
	ways := []map[string][]string{}
	open := map[string]bool{} // schemes that let in without regard to role
	for _, k := range access.Callers() {
		s := callerKinds[k].scheme
		way := map[string][]string{}
		switch {
		case open[s.name]:
			continue
		case s.name != "":
			d.doc.Components.Security[s.name] = securitySchemes[s.name]
			way[s.name] = []string{}
		}
		if s.role != "" {
			way[s.name] = []string{s.role}
		} else {
			open[s.name] = true
		}
		ways = append(ways, way)
	}
	return ways
}
