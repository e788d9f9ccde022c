package blob

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
)

// Collected is what a collection removed.
type Collected struct {
	Blobs int
	Bytes int64
}

// Referenced tells whether any event refers to the content with this hash. It must know every event that was appended
// up to the moment of the call, or a blob that is needed is lost; when it cannot tell it fails.
type Referenced func(ctx context.Context, sum [sha256.Size]byte) (bool, error)

// Collect removes blobs that were last put before the given time and to which nothing refers, and temporary files
// of crashed processes as old as that. The time leaves room between a Put and the append of the event that refers to it
// (a day, where the longest request takes minutes).
//
// A Put through the same Store of content that is being collected is safe. Another process must not put, in the very
// moment between Collect's last look and the removal, content that lay unreferenced for so long.
func (s *Store) Collect(ctx context.Context, before time.Time, referenced Referenced) (Collected, error) {
	var sum Collected
	if s.folder != nil {
		if err := s.folder.removeTemps(before); err != nil {
			return sum, fmt.Errorf("collect temporary files: %w", err)
		}
	}
	err := s.eachObject(ctx, func(object *blob.ListObject) error {
		removed, err := s.collect(ctx, object, before, referenced)
		if err != nil {
			return fmt.Errorf("collect blob %s: %w", path.Base(object.Key), err)
		}
		if removed {
			sum.Blobs++
			sum.Bytes += object.Size
		}
		return nil
	})
	return sum, err
}

// collect removes one object if it is a blob, old and unreferenced.
func (s *Store) collect(ctx context.Context, object *blob.ListObject, before time.Time, referenced Referenced) (bool, error) {
	ref, ok := refOfKey(object)
	if !ok || !object.ModTime.Before(before) {
		return false, nil
	}
	if needed, err := referenced(ctx, ref.SHA256); err != nil || needed {
		return false, err
	}
	busy := &s.busy[ref.SHA256[0]]
	busy.Lock()
	defer busy.Unlock()
	// Look again: it may have been put since it was listed.
	attributes, err := s.bucket.Attributes(ctx, object.Key)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return false, nil
	}
	if err != nil || !attributes.ModTime.Before(before) {
		return false, err
	}
	return true, s.bucket.Delete(ctx, object.Key)
}

// refOfKey recognises the store's own objects; whatever else lies in the bucket is left alone.
func refOfKey(object *blob.ListObject) (Ref, bool) {
	sum, err := hex.DecodeString(path.Base(object.Key))
	if err != nil {
		return Ref{}, false
	}
	ref, err := NewRef(sum, object.Size)
	return ref, err == nil && ref.key() == object.Key
}
