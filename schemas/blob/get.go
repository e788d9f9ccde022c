package blob

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"gocloud.dev/gcerrors"
)

// Get reads a blob from its beginning. Content with another size gives ErrCorrupt at once, content with another hash
// gives ErrCorrupt in place of io.EOF. The caller closes the reader.
func (s *Store) Get(ctx context.Context, ref Ref) (io.ReadCloser, error) {
	content, err := s.NewRangeReader(ctx, ref, 0, -1)
	if err != nil {
		return nil, err
	}
	return &verifier{content: content, ref: ref, hash: sha256.New()}, nil
}

// ReadAll reads a whole blob into memory and verifies it. A blob of more than limit bytes gives a TooLargeError.
func (s *Store) ReadAll(ctx context.Context, ref Ref, limit int64) ([]byte, error) {
	if ref.Size > limit {
		return nil, fmt.Errorf("read blob %v: %w", ref, TooLargeError{Limit: limit})
	}
	r, err := s.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	content := make([]byte, ref.Size)
	if _, err := io.ReadFull(r, content); err != nil {
		return nil, err
	}
	// The hash is checked where the content ends.
	if _, err := io.Copy(io.Discard, r); err != nil {
		return nil, err
	}
	return content, nil
}

// NewRangeReader reads length bytes (all that follow, when negative) from an offset, for a download that goes on
// where it broke off. Only the blob's size is verified: a part has no hash. The caller closes the reader.
func (s *Store) NewRangeReader(ctx context.Context, ref Ref, offset, length int64) (io.ReadCloser, error) {
	if offset < 0 || offset > ref.Size {
		return nil, fmt.Errorf("read blob %v from %d: it ends at %d", ref, offset, ref.Size)
	}
	if offset == ref.Size && offset > 0 { // S3 refuses a range that begins at the end
		err := s.check(ctx, ref)
		return io.NopCloser(strings.NewReader("")), err
	}
	r, err := s.bucket.NewRangeReader(ctx, ref.key(), offset, length, nil)
	if err != nil {
		return nil, readError(ref, err)
	}
	if r.Size() != ref.Size {
		r.Close()
		return nil, sizeError(ref, r.Size())
	}
	return r, nil
}

// Has tells whether the blob is stored. Content with another size gives ErrCorrupt.
func (s *Store) Has(ctx context.Context, ref Ref) (bool, error) {
	err := s.check(ctx, ref)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// check fails unless the blob is stored with its size.
func (s *Store) check(ctx context.Context, ref Ref) error {
	attributes, err := s.bucket.Attributes(ctx, ref.key())
	if err != nil {
		return readError(ref, err)
	}
	if attributes.Size != ref.Size {
		return sizeError(ref, attributes.Size)
	}
	return nil
}

func readError(ref Ref, err error) error {
	if gcerrors.Code(err) == gcerrors.NotFound {
		err = ErrNotFound
	}
	return fmt.Errorf("read blob %v: %w", ref, err)
}

func sizeError(ref Ref, size int64) error {
	return readError(ref, fmt.Errorf("it has %d bytes in place of %d: %w", size, ref.Size, ErrCorrupt))
}

// verifier passes content on and compares its hash where it ends.
type verifier struct {
	content io.ReadCloser
	ref     Ref
	hash    hash.Hash
}

func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.content.Read(p)
	v.hash.Write(p[:n])
	switch {
	case err == io.EOF && [sha256.Size]byte(v.hash.Sum(nil)) != v.ref.SHA256:
		err = readError(v.ref, fmt.Errorf("its hash differs: %w", ErrCorrupt))
	case err != nil && err != io.EOF:
		err = readError(v.ref, err)
	}
	return n, err
}

func (v *verifier) Close() error { return v.content.Close() }
