// Package download answers with files of the blob store: streamed, by parts for who goes on where a download broke off, and
// never with other bytes than were stored.
package download

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/schemas/blob"
	"github.com/millrace/millrace/schemas/route"
)

// Timeout bounds an answer.
const Timeout = time.Hour

// patience is how long a client may take for a piece.
const patience = time.Minute

// piece is how much is read at a time.
const piece = 256 << 10

// File is what is answered.
type File struct {
	Ref         blob.Ref
	ContentType string
	// Disposition is the value of header Content-Disposition.
	Disposition string
}

// Sender answers with files.
type Sender struct {
	Blobs  *blob.Store
	Logger *slog.Logger
}

// Send answers with a file, or with the part of it that is asked for. The entity tag is the file's SHA-256. A file that is
// damaged breaks the connection off before its last bytes.
func (s *Sender) Send(c *gin.Context, f File) {
	header, tag := c.Writer.Header(), `"`+f.Ref.String()+`"`
	header.Set("Accept-Ranges", "bytes")
	header.Set("ETag", tag)
	header.Set("Cache-Control", "private, no-cache")
	if matches(c.GetHeader("If-None-Match"), tag) {
		c.Status(http.StatusNotModified)
		c.Writer.WriteHeaderNow()
		return
	}
	header.Set("Content-Type", f.ContentType)
	header.Set("Content-Disposition", f.Disposition)
	header.Set("Content-Security-Policy", "sandbox") // it is not ours
	header.Set("X-Content-Type-Options", "nosniff")
	part, status := partOf(c.Request.Header, tag, f.Ref.Size)
	switch status {
	case http.StatusRequestedRangeNotSatisfiable:
		header.Set("Content-Range", fmt.Sprintf("bytes */%d", f.Ref.Size))
		route.Refuse(c, route.Errorf(status, "the file has %d bytes: the range lies behind its end", f.Ref.Size))
		return
	case http.StatusPartialContent:
		header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", part.offset, part.offset+part.length-1, f.Ref.Size))
	}
	s.send(c, f, part, status)
}

func (s *Sender) send(c *gin.Context, f File, p part, status int) {
	ctx := c.Request.Context()
	content, err := s.Blobs.GetPart(ctx, f.Ref, p.offset, p.length)
	if err != nil {
		c.Writer.Header().Del("ETag")
		c.Writer.Header().Del("Content-Range")
		route.Refuse(c, fmt.Errorf("open a file: %w", err))
		return
	}
	defer func() { _ = content.Close() }()
	c.Header("Content-Length", strconv.FormatInt(p.length, 10))
	c.Status(status)
	c.Writer.WriteHeaderNow()
	if c.Request.Method == http.MethodHead {
		return
	}
	err = copyTo(ctx, c.Writer, content)
	if err == nil {
		return
	}
	if ctx.Err() == nil && !errors.Is(err, errGone) {
		s.Logger.ErrorContext(ctx, "a file cannot be read: its download was broken off", "path", c.Request.URL.Path, "error", err)
	}
	panic(http.ErrAbortHandler)
}

// errGone means that the client has gone, or takes nothing.
var errGone = errors.New("the client takes nothing")

// copyTo writes piece by piece, each in its time.
func copyTo(ctx context.Context, w http.ResponseWriter, content io.Reader) error {
	control, buffer := http.NewResponseController(w), make([]byte, piece)
	for {
		n, err := io.ReadFull(content, buffer)
		if n > 0 {
			_ = control.SetWriteDeadline(time.Now().Add(patience)) // only a writer without a connection has none
			if _, err := w.Write(buffer[:n]); err != nil {
				return fmt.Errorf("%w: %w", errGone, err)
			}
		}
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
}

// matches tells whether an If-None-Match header has the tag.
func matches(header, tag string) bool {
	for candidate := range strings.SplitSeq(header, ",") {
		if candidate = strings.TrimPrefix(strings.TrimSpace(candidate), "W/"); candidate == tag || candidate == "*" {
			return true
		}
	}
	return false
}

// part is what is sent of a file.
type part struct{ offset, length int64 }

// partOf reads the range that is asked for: 200 for the whole, which also several ranges get, and a range of another file
// than this one; 416 for one behind the end.
func partOf(h http.Header, tag string, size int64) (part, int) {
	whole := part{0, size}
	wanted, found := strings.CutPrefix(h.Get("Range"), "bytes=")
	if condition := h.Get("If-Range"); !found || condition != "" && condition != tag {
		return whole, http.StatusOK
	}
	first, last, found := strings.Cut(strings.TrimSpace(wanted), "-")
	from, fromErr := strconv.ParseUint(first, 10, 63)
	to, toErr := strconv.ParseUint(last, 10, 63)
	switch {
	case !found || first == "" && toErr != nil || first != "" && fromErr != nil || last != "" && toErr != nil:
		return whole, http.StatusOK // nothing that is understood, or several
	case first == "" && to == 0 || first != "" && int64(from) >= size:
		return part{}, http.StatusRequestedRangeNotSatisfiable
	case first == "" && size == 0:
		return whole, http.StatusOK
	case first == "":
		length := min(int64(to), size)
		return part{size - length, length}, http.StatusPartialContent
	case last == "":
		return part{int64(from), size - int64(from)}, http.StatusPartialContent
	case to < from:
		return whole, http.StatusOK
	}
	return part{int64(from), min(int64(to), size-1) - int64(from) + 1}, http.StatusPartialContent
}
