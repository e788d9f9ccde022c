package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/millrace/millrace/deploy/standalone/config"
	"github.com/millrace/millrace/ingest"
	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/schemas/eventlog"
	"github.com/millrace/millrace/schemas/keyring"
)

// keyPolicy says how a process comes to the installation's key.
type keyPolicy uint8

const (
	// keyMustExist: the process refuses to go on without the key file.
	keyMustExist keyPolicy = iota
	// keyMayBeNew: while the log names no key, the process makes one where there is none, and names it in the log.
	keyMayBeNew
)

// keyPolicyOf: in a cluster the processor comes first, since the others are ready only with projections to read; of the
// services that may be first, the log decides whose key it is.
func keyPolicyOf(role Role) keyPolicy {
	if role == Query {
		return keyMustExist
	}
	return keyMayBeNew
}

func keyFile(c config.Config) string {
	if c.KeyFile != "" {
		return c.KeyFile
	}
	return filepath.Join(c.Data, "key")
}

// openKey opens the installation's key and refuses one that is not the log's.
func (k *core) openKey(ctx context.Context, path string, policy keyPolicy) error {
	return k.withRegistry(ctx, func(ctx context.Context) error {
		if err := k.registry.CatchUp(ctx); err != nil {
			return fmt.Errorf("look up the log's installation key: %w", err)
		}
		var named string
		k.registry.View(func(s *registry.State) { named = s.KeyID })
		if err := checkKeyFile(path, named, policy); err != nil {
			return err
		}
		var err error
		if k.keys, err = keyring.Open(path); err != nil {
			return err
		}
		if policy == keyMustExist {
			_, err := access.CheckKey(ctx, k.registry, k.keys)
			return err
		}
		return ingest.NameKey(ctx, door.Connect(k.log, k.appender), door.Bind(eventlog.Registry, k.registry, k.appender, nil), k.keys)
	})
}

// checkKeyFile refuses a missing key file where a new one would be a mistake.
func checkKeyFile(path, named string, policy keyPolicy) error {
	_, err := os.Stat(path)
	switch {
	case !errors.Is(err, fs.ErrNotExist):
		return nil // other troubles are told when it is read
	case named != "":
		return fmt.Errorf("there is no key file %s, and the log was started under the installation key %s: "+
			"set MILLRACE_KEY_FILE to that installation's key file, or bring it back from a backup", path, named)
	case policy == keyMustExist:
		return fmt.Errorf("there is no key file %s: set MILLRACE_KEY_FILE to the installation's, "+
			"which its first start as standalone, processor or ingest makes", path)
	}
	return nil
}

// existingKey opens a key that must be there.
func existingKey(path string) (*keyring.Keyring, error) {
	if err := checkKeyFile(path, "", keyMustExist); err != nil {
		return nil, err
	}
	return keyring.Open(path)
}

// withRegistry keeps the registry's replica running while something is done with it.
func (k *core) withRegistry(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		cancel(k.registry.Run(ctx))
	}()
	err := do(ctx)
	cancel(nil)
	<-ended
	return err
}
