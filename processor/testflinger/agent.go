package testflinger

import "strconv"

// maxLog bounds the lines of its log that an agent sends at a time.
const maxLog = 100

// Agent is what an agent says of itself (7); what is nil stays as it was.
type Agent struct {
	State, Comment, Location, ProvisionType, JobID, Identifier *string
	// HasQueues says that Queues are given, if only none.
	HasQueues bool
	Queues    []string
	// Log are new lines of its log, the newest last.
	Log []string
}

// ReadAgent reads what an agent says of itself.
func ReadAgent(contentType string, body []byte) (*Agent, error) {
	name, whole := text(maxName), text(maxText)
	o := &object{strict: true, members: []member{
		{name: "state", check: name}, {name: "comment", check: whole}, {name: "location", check: name},
		{name: "provision_type", check: name}, {name: "job_id", check: name}, {name: "identifier", check: name},
		{name: "queues", check: listOf(name, 0, maxItems)}, {name: "log", check: listOf(whole, 0, maxItems)},
	}}
	given, err := o.read(contentType, body)
	if err != nil {
		return nil, err
	}
	optional := func(name string) *string {
		if s, there := given[name].(string); there {
			return &s
		}
		return nil
	}
	a := &Agent{
		State: optional("state"), Comment: optional("comment"), Location: optional("location"),
		ProvisionType: optional("provision_type"), JobID: optional("job_id"), Identifier: optional("identifier"),
		Queues: asTexts(given["queues"]), Log: asTexts(given["log"]),
	}
	_, a.HasQueues = given["queues"]
	a.Log = a.Log[max(0, len(a.Log)-maxLog):]
	return a, nil
}

// Provision is how an agent provisioned its device (2).
type Provision struct {
	JobID    string
	ExitCode int64
	Detail   string
}

// ReadProvision reads an entry of a provision log.
func ReadProvision(contentType string, body []byte) (*Provision, error) {
	o := &object{strict: true, members: []member{
		{name: "job_id", check: text(maxName), required: true}, {name: "exit_code", check: integer, required: true},
		{name: "detail", check: text(maxText)},
	}}
	given, err := o.read(contentType, body)
	if err != nil {
		return nil, err
	}
	return &Provision{JobID: asText(given["job_id"]), ExitCode: number(given["exit_code"]), Detail: asText(given["detail"])}, nil
}

// ReadQueues reads descriptions of queues, by their names (2). Seed takes descriptions of every type, and keeps them as text:
// an agent's settings may well name a queue and say nothing of it.
func ReadQueues(g Generation, contentType string, body []byte) (map[string]string, error) {
	value, err := decode(contentType, body)
	if err != nil {
		return nil, err
	}
	if given, ok := value.(map[string]any); ok && g == Seed {
		for name, description := range given {
			if given[name], err = described(description); err != nil {
				return nil, err
			}
		}
	}
	return textsByName(value, text(maxName), nil)
}

// described gives a description as a text.
func described(description any) (any, error) {
	switch description.(type) {
	case string:
		return description, nil
	case nil:
		return "", nil
	}
	written, err := encode(description)
	return string(written), err
}

// textsByName reads an object whose values are strings; faults are by name, under names that lead to it.
func textsByName(value any, name check, under []string) (map[string]string, error) {
	given, ok := value.(map[string]any)
	if !ok {
		return nil, invalid(under, Faults{wholeObject: []string{notObject}})
	}
	faults, texts := Faults{}, make(map[string]string, len(given))
	for key, v := range given {
		if _, fault := name(key); fault != nil {
			faults[key] = fault
			continue
		}
		stored, fault := text(maxText)(v)
		if fault != nil {
			faults[key] = fault
		}
		texts[key] = asText(stored)
	}
	if len(faults) > 0 {
		return nil, invalid(under, faults)
	}
	return texts, nil
}

func invalid(under []string, faults Faults) error {
	for _, name := range under {
		faults = Faults{name: faults}
	}
	return &InvalidError{Faults: faults}
}

// ReadImages reads the images of queues: provisioning lines by image, by queue (2).
func ReadImages(g Generation, contentType string, body []byte) (map[string]map[string]string, error) {
	value, err := decode(contentType, body)
	if err != nil {
		return nil, err
	}
	given, ok := value.(map[string]any)
	if !ok {
		return nil, invalid(nil, Faults{wholeObject: []string{notObject}})
	}
	name := text(maxName)
	if g == Latest {
		name = imageName
	}
	images := make(map[string]map[string]string, len(given))
	for queue, lines := range given {
		if _, fault := text(maxName)(queue); fault != nil {
			return nil, invalid(nil, Faults{strconv.Quote(queue[:min(len(queue), 40)]): fault})
		}
		if images[queue], err = textsByName(lines, name, []string{queue}); err != nil {
			return nil, err
		}
	}
	return images, nil
}

// imageName takes names of images that the newest generation takes (2).
func imageName(value any) (stored, fault any) {
	stored, fault = filled(1, maxName)(value)
	s := asText(stored)
	for i := range len(s) {
		if s[i] == '.' || s[i] == 0 || s[i] == '$' && i == 0 {
			fault = []string{"Invalid image name: it must not begin with $, nor have a dot or a NUL."}
		}
	}
	return stored, fault
}
