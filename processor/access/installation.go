package access

import (
	"context"
	"fmt"

	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/schemas/keyring"
)

// CheckKey fails when the log's secrets are sealed under another installation's key. It gives false while the log does
// not name a key yet.
func CheckKey(ctx context.Context, r Registry, ring *keyring.Keyring) (bool, error) {
	if err := r.CatchUp(ctx); err != nil {
		return false, fmt.Errorf("look up the log's installation key: %w", err)
	}
	var id string
	r.View(func(s *registry.State) { id = s.KeyID })
	if id != "" && id != ring.ID() {
		return true, fmt.Errorf("the log was started under the installation key %s, this process has %s: "+
			"give it the key file of that installation (MILLRACE_KEY_FILE), or another log and data folder", id, ring.ID())
	}
	return id != "", nil
}
