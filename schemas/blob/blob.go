// Package blob stores content under the SHA-256 of itself: documents, archives and outputs that are too large for an
// event, which then carries the Ref.
//
// The store is a gocloud.dev bucket with keys like ab/cd/abcd…: a folder (file://), an S3-compatible service (s3://)
// or memory (mem://, for tests). Content is whole and durable when Put returns, so an event may refer to it from then on.
package blob

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"sync"

	"gocloud.dev/blob"
	_ "gocloud.dev/blob/fileblob" // file://
	_ "gocloud.dev/blob/memblob"  // mem://
	_ "gocloud.dev/blob/s3blob"   // s3://
)

// Errors of reading, found with errors.Is.
var (
	// ErrNotFound: the store has no blob of that name.
	ErrNotFound = errors.New("blob not found: it was never stored here, or was collected")
	// ErrCorrupt: what is stored has another size or hash than the Ref. Putting the same content again repairs it.
	ErrCorrupt = errors.New("blob is corrupt: restore it from a backup")
)

// TooLargeError tells that content exceeds the limit that the caller gave. Found with errors.As.
type TooLargeError struct {
	Limit int64 // bytes
}

func (e TooLargeError) Error() string {
	return fmt.Sprintf("content is larger than the limit of %d bytes", e.Limit)
}

// Ref names a blob by its content.
type Ref struct {
	SHA256 [sha256.Size]byte
	Size   int64 // bytes
}

// NewRef makes a Ref from an event's fields, which come as a slice.
func NewRef(sum []byte, size int64) (Ref, error) {
	if len(sum) != sha256.Size || size < 0 {
		return Ref{}, fmt.Errorf("blob reference of %d hash bytes and size %d: want %d hash bytes and a size from 0", len(sum), size, sha256.Size)
	}
	return Ref{SHA256: [sha256.Size]byte(sum), Size: size}, nil
}

// RefOf names content that is in memory, without storing it.
func RefOf(content []byte) Ref {
	return Ref{SHA256: sha256.Sum256(content), Size: int64(len(content))}
}

// String gives the hash in lower-case hexadecimal digits.
func (r Ref) String() string { return hex.EncodeToString(r.SHA256[:]) }

// key fans names out over 65,536 prefixes, so that no folder grows large.
func (r Ref) key() string {
	name := r.String()
	return name[:2] + "/" + name[2:4] + "/" + name
}

// Store is a content-addressed blob store. It is safe for concurrent use.
type Store struct {
	bucket *blob.Bucket
	folder *folder // writes file:// stores durably; nil for the other schemes

	// busy keeps Collect from deleting what a Put of the same content is about to rely on. The index is the first byte of the hash.
	busy [256]sync.RWMutex
}

// Open opens the store at a gocloud URL: file:///var/lib/millrace/blobs (created where missing, file://./blobs is
// relative), s3://bucket?region=…, mem://.
func Open(ctx context.Context, address string) (*Store, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("open blob store: %w", err)
	}
	s := &Store{}
	if u.Scheme == "file" {
		if s.folder, err = openFolder(u); err != nil {
			return nil, fmt.Errorf("open blob store %s: %w", address, err)
		}
		u = withoutSidecars(u)
	}
	if s.bucket, err = blob.OpenBucket(ctx, u.String()); err != nil {
		return nil, fmt.Errorf("open blob store %s (known are file://, s3:// and mem://): %w", u.Redacted(), err)
	}
	return s, nil
}

// Close releases the connections of the store.
func (s *Store) Close() error { return s.bucket.Close() }

// withoutSidecars keeps fileblob from looking for metadata that is never written.
func withoutSidecars(u *url.URL) *url.URL {
	plain, query := *u, u.Query()
	query.Set("metadata", "skip")
	plain.RawQuery = query.Encode()
	return &plain
}
