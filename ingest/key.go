package ingest

import (
	"context"
	"fmt"

	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/keyring"
)

// NameKey makes the log name the installation's key, if it names none yet, and refuses a log that was started under
// another key. The registry's replica must be running.
func NameKey(ctx context.Context, log door.Log, replica door.Fold[*registry.State, registry.Outcome], ring *keyring.Keyring) error {
	named, err := access.CheckKey(ctx, replica, ring)
	if named || err != nil {
		return err
	}
	if _, _, err := door.Decide(ctx, log, replica, "/ingest", &event.LogStarted{KeyId: ring.ID()}); err != nil {
		return fmt.Errorf("name the installation's key in the log: %w", err)
	}
	// Another process may have been faster, with another key.
	_, err = access.CheckKey(ctx, replica, ring)
	return err
}
