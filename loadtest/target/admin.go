package target

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// owner is whom the harness's machines belong to.
const owner = "loadtest"

// register makes the machines and the token. Their names carry the time, so that a target can be loaded again.
func (t *Target) register(ctx context.Context, machines int) error {
	tag := strconv.FormatInt(time.Now().UnixMilli(), 36)
	var user struct{}
	if err := t.Admin(ctx, &user, "admin", "pgperffarm", "user", "set", owner); err != nil {
		return err
	}
	for i := range machines {
		var machine Machine
		alias := fmt.Sprintf("loadtest-%s-%d", tag, i)
		if err := t.Admin(ctx, &machine, "admin", "pgperffarm", "machine", "add", alias, "--owner", owner, "--approved"); err != nil {
			return err
		}
		if machine.ID == 0 || machine.Secret == "" {
			return fmt.Errorf("millrace admin … machine add %s gave no machine_id or secret", alias)
		}
		t.Machines = append(t.Machines, machine)
	}
	var token struct {
		Token string `json:"token"`
	}
	if err := t.Admin(ctx, &token, "admin", "token", "add", "loadtest-"+tag, "--role", "operator"); err != nil {
		return err
	}
	t.Token = token.Token
	return nil
}

// Admin runs an operator's command of millrace on the target and reads its JSON answer.
func (t *Target) Admin(ctx context.Context, answer any, arguments ...string) error {
	program, err := t.programs.Path("millrace")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program, append(arguments, "--json")...)
	cmd.Env = t.baseEnviron()
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("millrace %s: %w: %s", strings.Join(arguments, " "), err, strings.TrimSpace(complaints.String()))
	}
	if err := json.Unmarshal(out.Bytes(), answer); err != nil {
		return fmt.Errorf("read the answer of millrace %s: %w", strings.Join(arguments, " "), err)
	}
	return nil
}

// Version is the target's, empty when its program is not here.
func (t *Target) Version(ctx context.Context) string {
	program, err := t.programs.Path("millrace")
	if err != nil {
		return ""
	}
	out, err := exec.CommandContext(ctx, program, "--version").Output()
	if err != nil {
		return ""
	}
	return strings.TrimPrefix(strings.TrimSpace(string(out)), "millrace version ")
}
