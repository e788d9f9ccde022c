package blob

import (
	"context"
	"errors"
	"fmt"
	"io"

	"gocloud.dev/blob"
)

// Each calls fn with every blob, in the order of their hashes, until fn fails.
func (s *Store) Each(ctx context.Context, fn func(Ref) error) error {
	return s.eachObject(ctx, func(object *blob.ListObject) error {
		if ref, ok := refOfKey(object); ok {
			return fn(ref)
		}
		return nil
	})
}

// eachObject lists prefix by prefix, because each page of a listing of a folder walks it from its beginning.
func (s *Store) eachObject(ctx context.Context, fn func(*blob.ListObject) error) error {
	for first := range 256 {
		objects := s.bucket.List(&blob.ListOptions{Prefix: fmt.Sprintf("%02x/", first)})
		for {
			object, err := objects.Next(ctx)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return fmt.Errorf("list blobs: %w", err)
			}
			if err := fn(object); err != nil {
				return err
			}
		}
	}
	return nil
}
