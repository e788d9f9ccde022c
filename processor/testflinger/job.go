package testflinger

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Bounds on what of a job is indexed; the API's contract has none.
const (
	maxName  = 255
	maxTags  = 100
	maxText  = 1 << 20
	maxItems = 10_000
)

// defaultReservation is how long a device is reserved when a job does not say, in seconds (6).
const defaultReservation = 3600

// Job is a submitted job (3).
type Job struct {
	Queue string
	// ID is the client's own; empty when the server is to make one.
	ID       string
	Name     string
	Parent   string
	Tags     []string
	Priority int64
	// Reservation is the time that the job may keep its device reserved, in seconds.
	Reservation int64
	// Reserves says that it is for reserving a device.
	Reserves bool
	// Held says that attachments have to come before the job is handed out.
	Held bool
	// Excluded are the agents that must not get the job, each once, in ascending order (Latest).
	Excluded []string
	// Secrets are the paths of the secrets that the job wants, by the variables that they go into (Latest).
	Secrets map[string]string

	members map[string]any
}

// jobIDMember is where a job's document has its id.
const jobIDMember = "job_id"

// ReadJob reads a submission. Errors are ErrNotJSON or an *InvalidError.
func ReadJob(g Generation, contentType string, body []byte) (*Job, error) {
	given, err := jobObject(g).read(contentType, body)
	if err != nil {
		return nil, err
	}
	j := &Job{
		Queue: asText(given["job_queue"]), ID: asText(given[jobIDMember]), Name: asText(given["name"]),
		Parent: asText(given["parent_job_id"]), Tags: asTexts(given["tags"]), Priority: number(given["job_priority"]),
		Reservation: defaultReservation, Held: awaitsAttachments(given), members: given,
	}
	reserve, reserves := given["reserve_data"].(map[string]any)
	if j.Reserves = reserves; reserve["timeout"] != nil {
		j.Reservation = number(reserve["timeout"])
	}
	if g == Latest {
		j.Excluded = asTexts(given["exclude_agents"])
		slices.Sort(j.Excluded)
		j.Excluded = slices.Compact(j.Excluded)
		j.Secrets = secretsOf(given)
		if given["exclude_agents"] == nil {
			given["exclude_agents"] = []any{} // its answers have it always (3)
		}
	}
	return j, nil
}

// Document is the job as it is stored, handed out and shown: what was submitted, under an id.
func (j *Job) Document(id string) ([]byte, error) {
	j.members[jobIDMember] = id
	return encode(j.members)
}

// awaitsAttachments says whether any part of a job names attachments, if only an empty list (3).
func awaitsAttachments(job map[string]any) bool {
	for name, value := range job {
		if part, _ := value.(map[string]any); strings.HasSuffix(name, "_data") {
			if _, named := part["attachments"]; named {
				return true
			}
		}
	}
	return false
}

func secretsOf(job map[string]any) map[string]string {
	test, _ := job["test_data"].(map[string]any)
	given, _ := test["secrets"].(map[string]any)
	secrets := make(map[string]string, len(given))
	for variable, path := range given {
		secrets[variable] = asText(path)
	}
	return secrets
}

var (
	sshKey         = regexp.MustCompile(`\A(lp|gh):\S+\z`)
	secretVariable = regexp.MustCompile(`\A[A-Za-z_][A-Za-z0-9_]*\z`)
	secretPath     = regexp.MustCompile(`\A[A-Za-z0-9_/-]+\z`)
	// agentName refuses NUL, by which the jobs' fold keeps excluded names apart: "a NUL b" would pass for "a" and "b".
	agentName = regexp.MustCompile(`\A[^\x00]+\z`)
)

// jobObject is what a job may have. Members that are not known are passed along to the agent (11).
func jobObject(g Generation) *object {
	name, whole := text(maxName), text(maxText)
	queue := name
	if g == Latest {
		queue = filled(1, maxName)
	}
	o := &object{
		members: []member{
			{name: "job_queue", check: queue, required: true},
			{name: jobIDMember, check: name}, {name: "parent_job_id", check: name}, {name: "name", check: name},
			{name: "tags", check: listOf(name, 0, maxTags)},
			{name: "global_timeout", check: integer}, {name: "output_timeout", check: integer}, {name: "allocation_timeout", check: integer},
			{name: "job_priority", check: integer},
			{name: "provision_data", check: device(g), nullable: true},
			{name: "firmware_update_data", check: free}, {name: "allocate_data", check: free},
			{name: "test_data", check: testData(g).check},
			{name: "reserve_data", check: (&object{members: []member{
				{name: "ssh_keys", check: listOf(pattern(sshKey), 0, maxItems)}, {name: "timeout", check: reservation(g)},
			}}).check},
			{name: "job_status_webhook", check: whole},
		},
		refused: []string{"attachments_status", "started_at", "created_at", "client_id"}, // the server's own
	}
	if g == Latest {
		o.members = append(o.members, member{name: "exclude_agents", check: listOf(pattern(agentName), 0, maxTags)}, member{name: "debug", check: boolean})
	}
	return o
}

func testData(g Generation) *object {
	whole := text(maxText)
	o := &object{members: []member{
		{name: "test_cmds", check: whole}, {name: "attachments", check: attachments()},
		{name: "test_username", check: whole}, {name: "test_password", check: whole},
	}}
	if g == Latest {
		secrets := mapOf(pattern(secretVariable), pattern(secretPath))
		o.members = append(o.members, member{name: "secrets", check: secrets})
	}
	return o
}

// attachments are files that come after the submission; where the client has them is its own affair.
func attachments() check {
	item := &object{strict: true, members: []member{
		{name: "agent", check: text(maxText), required: true}, {name: "device", check: text(maxText)},
	}}
	return listOf(item.check, 0, maxItems)
}

// reservation takes the time that a device is to be reserved, and stores seconds.
func reservation(g Generation) check {
	if g == Seed {
		return integer
	}
	return func(value any) (any, any) {
		if s, ok := value.(string); ok {
			if seconds, ok := parseDuration(s); ok {
				value = strconv.FormatInt(seconds, 10)
			}
		}
		stored, fault := integer(value)
		switch {
		case fault != nil:
			return value, []string{"Not a valid duration: want seconds, or a text such as 90s, 30min, 6h or 1d12h."}
		case number(stored) < 0:
			return value, []string{notNegative}
		}
		return stored, nil
	}
}

var (
	durationForm = regexp.MustCompile(`(?i)\A(\s*[0-9]{1,9}\s*(s|secs?|m|mins?|h|hours?|d|days?))+\s*\z`)
	durationPart = regexp.MustCompile(`([0-9]+)\s*([a-zA-Z])`)
)

// parseDuration reads times such as 90s, 30min, 6h and 1d12h, in seconds.
func parseDuration(text string) (seconds int64, ok bool) {
	if len(text) > maxName || !durationForm.MatchString(text) {
		return 0, false
	}
	units := map[string]int64{"s": 1, "m": 60, "h": 3600, "d": 86400}
	for _, part := range durationPart.FindAllStringSubmatch(text, -1) {
		n, err := strconv.ParseInt(part[1], 10, 64)
		if err != nil {
			return 0, false
		}
		seconds += n * units[strings.ToLower(part[2])]
	}
	return seconds, true
}

// EmptyQueue is the refusal of a job whose queue has no name (2, Seed).
const EmptyQueue = "Invalid data or no job_queue specified"

// InvalidJobID is the refusal of an id that is no UUID (2).
const InvalidJobID = "Invalid job_id specified"

// Assignment is a job's document with what its agent is told besides.
func Assignment(document []byte, extra map[string]any) ([]byte, error) {
	added, err := encode(extra)
	if err != nil {
		return nil, err
	}
	if len(document) < 2 || document[len(document)-1] != '}' || len(extra) == 0 {
		return nil, fmt.Errorf("a job's document of %d bytes is no object", len(document))
	}
	answer := append(document[:len(document)-1:len(document)-1], ',')
	return append(answer, added[1:]...), nil
}

// RevealSecrets gives a job's document with values where the paths of its secrets are.
func RevealSecrets(document []byte, value func(path string) (string, error)) ([]byte, error) {
	if !bytes.Contains(document, []byte(`"secrets":`)) {
		return document, nil
	}
	given, err := decode("application/json", document)
	if err != nil {
		return nil, fmt.Errorf("read a job's document: %w", err)
	}
	job, _ := given.(map[string]any)
	test, _ := job["test_data"].(map[string]any)
	secrets, _ := test["secrets"].(map[string]any)
	for variable, path := range secrets {
		if secrets[variable], err = value(asText(path)); err != nil {
			return nil, err
		}
	}
	return encode(job)
}
