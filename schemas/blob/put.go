package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"gocloud.dev/blob"
)

// contentType is the same for all blobs: what they hold is said by the event that refers to them.
const contentType = "application/octet-stream"

// Put stores what r gives, up to limit bytes, and names it by its hash. Memory stays bounded: the content goes through
// a temporary file. More than limit bytes give a TooLargeError; a failed Put leaves nothing under any hash. Content
// that is already there is stored again, which repairs a damaged copy and keeps it from being collected.
func (s *Store) Put(ctx context.Context, r io.Reader, limit int64) (Ref, error) {
	ref, err := s.put(ctx, r, limit)
	if err != nil {
		return Ref{}, fmt.Errorf("store blob: %w", err)
	}
	return ref, nil
}

func (s *Store) put(ctx context.Context, r io.Reader, limit int64) (Ref, error) {
	temp, err := s.createTemp()
	if err != nil {
		return Ref{}, err
	}
	defer temp.Close()
	ref, err := spool(ctx, temp, r, limit)
	if err == nil {
		err = s.publish(ctx, temp, ref)
	}
	if err != nil && s.folder != nil {
		os.Remove(temp.Name()) // what cannot be removed now is collected later
	}
	return ref, err
}

// PutBytes stores content that is in memory.
func (s *Store) PutBytes(ctx context.Context, content []byte) (Ref, error) {
	return s.Put(ctx, bytes.NewReader(content), int64(len(content)))
}

// createTemp makes a file for content whose hash is not known yet. For a bucket it has no name, so that a crash leaves
// nothing behind.
func (s *Store) createTemp() (*os.File, error) {
	if s.folder != nil {
		return s.folder.createTemp()
	}
	temp, err := os.CreateTemp("", "millrace-blob-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(temp.Name()); err != nil {
		return nil, errors.Join(err, temp.Close())
	}
	return temp, nil
}

func (s *Store) publish(ctx context.Context, temp *os.File, ref Ref) error {
	busy := &s.busy[ref.SHA256[0]]
	busy.RLock()
	defer busy.RUnlock()
	if s.folder != nil {
		return s.folder.publish(temp, ref)
	}
	if _, err := temp.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return s.upload(ctx, temp, ref)
}

// spool copies r to a file and hashes it on the way.
func spool(ctx context.Context, to io.Writer, r io.Reader, limit int64) (Ref, error) {
	hash := sha256.New()
	limit = min(limit, math.MaxInt64-1)
	limited := io.LimitReader(contextReader{ctx, r}, limit+1) // one more, to see that there is more
	size, err := io.Copy(io.MultiWriter(to, hash), limited)
	if err != nil {
		return Ref{}, err
	}
	if size > limit {
		return Ref{}, TooLargeError{Limit: limit}
	}
	return Ref{SHA256: [sha256.Size]byte(hash.Sum(nil)), Size: size}, nil
}

// upload writes to a bucket that shows an object only when it is complete, and checks that it is.
func (s *Store) upload(ctx context.Context, content io.Reader, ref Ref) error {
	// gocloud gives an upload up only when its context ends before Close.
	uploading, abort := context.WithCancel(ctx)
	defer abort()
	w, err := s.bucket.NewWriter(uploading, ref.key(), &blob.WriterOptions{ContentType: contentType})
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, content); err != nil {
		abort()
		return errors.Join(err, w.Close())
	}
	if err := w.Close(); err != nil {
		return err
	}
	err = s.check(ctx, ref)
	return err
}

// contextReader ends a copy when its context ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
