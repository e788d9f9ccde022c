// Package upload brings files of any size from a request into the blob store, without ever holding one in memory.
package upload

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/schemas/blob"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/route"
)

// Config is what an operator can set.
type Config struct {
	// MaxBytes is the size of the largest file, and Timeout the longest time in which one may arrive.
	MaxBytes int64
	Timeout  time.Duration
}

// DefaultConfig is the configuration where the operator says nothing.
func DefaultConfig() Config { return Config{MaxBytes: 4 << 30, Timeout: time.Hour} }

// Validate reports all mistakes at once.
func (c *Config) Validate() error {
	var errs []error
	if c.MaxBytes < 1 {
		errs = append(errs, errors.New("files.max_bytes must be at least 1"))
	}
	if c.Timeout < time.Second {
		errs = append(errs, errors.New("files.timeout must be at least 1s"))
	}
	return errors.Join(errs...)
}

// Receiver takes files.
type Receiver struct {
	Config

	Blobs *blob.Store
}

// packing is room for what a form adds to its file.
const packing = 1 << 20

// Around gives a route whose body is a file, or a form with one.
func (r Receiver) Around(served route.Route) route.Route {
	served.BodyLimit, served.Timeout, served.Streams = r.MaxBytes+packing, r.Timeout, true
	return served
}

// File is a file that is in the blob store.
type File struct {
	Document    *event.Document
	ContentType string
}

// Body takes a body that is a file.
func (r Receiver) Body(c *gin.Context) (File, error) {
	return r.take(c, c.Request.Body, c.GetHeader("Content-Type"))
}

// ErrNoPart means that a body is no form with the part that was wanted.
var ErrNoPart = errors.New("the body has no such part")

// Part takes the first part of a name of a multipart form, and reads the form to its end: one that was cut off is an error.
func (r Receiver) Part(c *gin.Context, name string) (File, error) {
	kind, params, err := mime.ParseMediaType(c.GetHeader("Content-Type"))
	if err != nil || kind != "multipart/form-data" || params["boundary"] == "" {
		return File{}, ErrNoPart
	}
	form, found := multipart.NewReader(c.Request.Body, params["boundary"]), File{}
	for {
		part, err := form.NextPart()
		switch {
		case err == io.EOF && found.Document == nil: // a wrapped one is a form without its end
			return File{}, ErrNoPart
		case err == io.EOF:
			return found, nil
		case err != nil:
			return File{}, formError(err)
		}
		if part.FormName() == name && found.Document == nil {
			if found, err = r.take(c, part, part.Header.Get("Content-Type")); err != nil {
				return File{}, err
			}
		}
	}
}

// formError says what is wrong with a form; what the body's own reader says is kept.
func formError(err error) error {
	if refusal := (*route.Error)(nil); errors.As(err, &refusal) {
		return err
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return route.Errorf(http.StatusBadRequest, "the form ends early: send all of it")
	}
	return route.Errorf(http.StatusBadRequest, "the body is no valid multipart form: %v", err)
}

// source tells faults of the sender's from those of the store.
type source struct {
	io.Reader

	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

func (r Receiver) take(c *gin.Context, from io.Reader, contentType string) (File, error) {
	sent := &source{Reader: from}
	ref, err := r.Blobs.Put(c.Request.Context(), sent, r.MaxBytes)
	tooLarge := blob.TooLargeError{}
	switch {
	case errors.As(err, &tooLarge):
		return File{}, route.Errorf(http.StatusRequestEntityTooLarge, "the file is over the limit of %d bytes", tooLarge.Limit)
	case sent.err != nil:
		return File{}, formError(sent.err)
	case err != nil && c.Request.Context().Err() != nil:
		return File{}, c.Request.Context().Err()
	case err != nil:
		return File{}, fmt.Errorf("%w: %w", door.OutOfReach("the blob store"), err)
	}
	return File{ContentType: contentType, Document: &event.Document{
		Place:    &event.Document_Blob{Blob: &event.BlobRef{Sha256: ref.SHA256[:], Size: uint64(ref.Size)}},
		Encoding: event.Encoding_ENCODING_IDENTITY, Size: uint64(ref.Size),
	}}, nil
}
