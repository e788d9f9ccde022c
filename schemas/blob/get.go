package blob

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"gocloud.dev/gcerrors"
)

// Get reads a blob from its beginning. Content with another size gives ErrCorrupt at once, content with another hash
// gives ErrCorrupt in place of its last bytes: who has got all bytes has got the right ones. The caller closes the reader.
func (s *Store) Get(ctx context.Context, ref Ref) (io.ReadCloser, error) {
	content, err := s.bucket.NewReader(ctx, ref.key(), nil)
	if err != nil {
		return nil, readError(ref, err)
	}
	if content.Size() != ref.Size {
		return nil, errors.Join(sizeError(ref, content.Size()), content.Close())
	}
	return &verifier{content: content, ref: ref, hash: sha256.New()}, nil
}

// GetPart is Get for length bytes from an offset on, for a download that goes on where it broke off. All of the blob is
// read, since a part has no hash of its own: the last bytes of the part come once the whole has been verified.
func (s *Store) GetPart(ctx context.Context, ref Ref, offset, length int64) (io.ReadCloser, error) {
	if offset < 0 || length < 0 || offset > ref.Size-length {
		return nil, fmt.Errorf("read %d bytes of blob %v from %d: it has %d", length, ref, offset, ref.Size)
	}
	whole, err := s.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	return &part{ReadCloser: whole, before: offset, left: length}, nil
}

// part reads a part of a verified whole.
type part struct {
	io.ReadCloser

	before, left int64
}

func (p *part) Read(b []byte) (int, error) {
	if p.before > 0 {
		if _, err := io.CopyN(io.Discard, p.ReadCloser, p.before); err != nil {
			return 0, err
		}
		p.before = 0
	}
	if p.left == 0 {
		return 0, io.EOF
	}
	n, err := p.ReadCloser.Read(b[:min(int64(len(b)), p.left)])
	p.left -= int64(n)
	if p.left == 0 && (err == nil || err == io.EOF) {
		_, err = io.Copy(io.Discard, p.ReadCloser)
	}
	if err != nil && err != io.EOF {
		return 0, err
	}
	return n, err
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

// verifier passes content on and compares its hash before it gives out the last bytes.
type verifier struct {
	content io.ReadCloser
	ref     Ref
	hash    hash.Hash
	read    int64
}

func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.content.Read(p)
	v.hash.Write(p[:n])
	v.read += int64(n)
	switch {
	case (err == io.EOF || v.read >= v.ref.Size) && [sha256.Size]byte(v.hash.Sum(nil)) != v.ref.SHA256:
		return 0, readError(v.ref, fmt.Errorf("its hash differs: %w", ErrCorrupt))
	case err != nil && err != io.EOF:
		err = readError(v.ref, err)
	}
	return n, err
}

func (v *verifier) Close() error { return v.content.Close() }
