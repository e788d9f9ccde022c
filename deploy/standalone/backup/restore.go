package backup

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/segmentio/kafka-go"
	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/millrace/millrace/processor/archive"
	"github.com/millrace/millrace/schemas/blob"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

// Target is the empty installation to bring a backup back into.
type Target struct {
	Archive *archive.Archive
	Blobs   *blob.Store
	KeyFile string
	// Progress is told the number of records brought back so far; it may be nil.
	Progress func(records int64)
}

// ErrNotEmpty means that the target holds events or a key already: a backup is never mixed into another truth. What a
// restore that failed had brought back counts too.
var ErrNotEmpty = errors.New("the installation is not empty: restore into an empty data folder and an empty database; " +
	"if a restore into it failed before, remove what that left (the data folder, the key file and the database that MILLRACE_CLICKHOUSE names, " +
	"if set), then restore again")

// maxPart bounds one member of the tar that is held in memory.
const maxPart = 4 << 30

type reader struct {
	target  Target
	summary Summary
}

// Read brings a backup back. The next start of the installation builds the projections from it.
func Read(ctx context.Context, from io.Reader, target Target) (Summary, error) {
	if _, err := os.Stat(target.KeyFile); err == nil {
		return Summary{}, fmt.Errorf("%s exists: %w", target.KeyFile, ErrNotEmpty)
	}
	empty, err := target.Archive.Empty(ctx)
	if err != nil {
		return Summary{}, err
	}
	if !empty {
		return Summary{}, fmt.Errorf("the database holds events: %w", ErrNotEmpty)
	}
	unpacked, err := gzip.NewReader(bufio.NewReaderSize(from, 1<<20))
	if err != nil {
		return Summary{}, fmt.Errorf("read the backup: %w", err)
	}
	r := &reader{target: target}
	members := tar.NewReader(unpacked)
	if err := readManifest(members); err != nil {
		return Summary{}, err
	}
	for {
		header, err := members.Next()
		if errors.Is(err, io.EOF) {
			return r.summary, nil
		}
		if err != nil {
			return r.summary, fmt.Errorf("read the backup: %w", err)
		}
		if err := r.member(ctx, header, members); err != nil {
			return r.summary, fmt.Errorf("restore %s: %w", header.Name, err)
		}
	}
}

func readManifest(members *tar.Reader) error {
	header, err := members.Next()
	if err != nil || header.Name != "manifest.json" {
		return errors.New("read the backup: it does not begin with manifest.json; is this a file of millrace admin backup?")
	}
	var manifest Manifest
	if err := json.NewDecoder(io.LimitReader(members, 1<<20)).Decode(&manifest); err != nil {
		return fmt.Errorf("read the backup's manifest: %w", err)
	}
	if manifest.Format != format {
		return fmt.Errorf("the backup has format %d, this version reads %d", manifest.Format, format)
	}
	return nil
}

func (r *reader) member(ctx context.Context, header *tar.Header, content io.Reader) error {
	r.summary.Bytes += header.Size
	name := header.Name
	switch {
	case name == "key":
		return writeKey(r.target.KeyFile, content)
	case strings.HasPrefix(name, "key.subjects/"):
		return r.subject(strings.TrimPrefix(name, "key.subjects/"), content)
	case strings.HasPrefix(name, "blobs/"):
		return r.blob(ctx, strings.TrimPrefix(name, "blobs/"), header.Size, content)
	case strings.HasPrefix(name, "log/"):
		return r.part(ctx, name, header.Size, content)
	}
	return errors.New("unknown member; was the backup made by a newer version?")
}

func (r *reader) subject(relative string, content io.Reader) error {
	if !filepath.IsLocal(relative) {
		return errors.New("member leaves its folder")
	}
	return writeKey(filepath.Join(r.target.KeyFile+".subjects", filepath.FromSlash(relative)), content)
}

func writeKey(path string, content io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, content)
	return errors.Join(err, file.Sync(), file.Close())
}

func (r *reader) blob(ctx context.Context, name string, size int64, content io.Reader) error {
	ref, err := r.target.Blobs.Put(ctx, content, size)
	if err != nil {
		return err
	}
	if ref.String() != name {
		return fmt.Errorf("content has SHA-256 %s: the backup is damaged", ref)
	}
	r.summary.Blobs++
	return nil
}

func (r *reader) part(ctx context.Context, name string, size int64, content io.Reader) error {
	if size > maxPart {
		return fmt.Errorf("member of %d bytes is over the limit of %d", size, int64(maxPart))
	}
	packed, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	from := bytes.NewReader(packed)
	var epoch uint32
	var logID string
	var records []eventlog.Record
	for {
		var archived event.ArchivedRecord
		err := protodelim.UnmarshalOptions{MaxSize: maxPart}.UnmarshalFrom(from, &archived)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("record %d: %w", len(records), err)
		}
		epoch, logID = archived.GetPlace().GetEpoch(), archived.GetLogId()
		records = append(records, recordOf(&archived))
	}
	if len(records) == 0 {
		return nil
	}
	if logID == "" {
		logID = fmt.Sprintf("restored-%d", epoch)
	}
	r.summary.Records += int64(len(records))
	if r.target.Progress != nil {
		r.target.Progress(r.summary.Records)
	}
	return r.target.Archive.Write(ctx, epoch, logID, "restore "+name, records, false)
}

func recordOf(a *event.ArchivedRecord) eventlog.Record {
	headers := make([]kafka.Header, len(a.GetHeaders()))
	for i, h := range a.GetHeaders() {
		headers[i] = kafka.Header{Key: h.GetKey(), Value: h.GetValue()}
	}
	partition := eventlog.Partition{Topic: a.GetPlace().GetTopic(), ID: int(a.GetPlace().GetPartition())}
	return eventlog.NewRecord(partition, a.GetPlace().GetOffset(), a.GetLogTime(), a.GetKey(), headers, a.GetValue())
}
