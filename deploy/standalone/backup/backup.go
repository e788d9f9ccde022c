// Package backup saves the truth of an installation in one file and brings it back: the log (its archive and its tail),
// the blob store and the keys. Everything else follows from these.
//
// The file is a gzip tar: manifest.json first, then log/TOPIC-PARTITION-N (Protobuf ArchivedRecord messages, each with
// its length before it), blobs/SHA256 and, after everything that is sealed under them, key and key.subjects/….
package backup

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/millrace/millrace/processor/archive"
	"github.com/millrace/millrace/schemas/blob"
	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/eventlog"
)

const format = 1

// Manifest describes a backup.
type Manifest struct {
	Format int       `json:"format"`
	At     time.Time `json:"at"`
	LogID  string    `json:"log_id"`
	KeyID  string    `json:"key_id"`
}

// Summary counts what was saved or brought back.
type Summary struct {
	Records int64 `json:"records"`
	Blobs   int64 `json:"blobs"`
	Bytes   int64 `json:"bytes"`
}

// Source is the installation to save.
type Source struct {
	Log     *eventlog.Client
	Archive *archive.Archive
	Epoch   uint32
	Blobs   *blob.Store
	KeyFile string
	KeyID   string
	// Progress is told the number of records saved so far; it may be nil.
	Progress func(records int64)
}

// partRecords is the number of records in one member of the tar: tar needs to know a member's size before its content.
const partRecords = 4096

type writer struct {
	source  Source
	tar     *tar.Writer
	summary Summary
	now     time.Time
	// keyID is the key that the log names; empty before it does.
	keyID string
	// wanted are the blobs that saved records refer to, until they are saved: each with those records, by the events' ids.
	wanted map[string]map[string]string
	// expired are the events whose files are kept no longer, so that their blobs may be gone.
	expired map[string]bool
}

// Write saves the installation while it runs. The log is read to the end that it had at the call; blobs come after it,
// so that every blob that a saved record refers to is there.
func Write(ctx context.Context, to io.Writer, source Source) (Summary, error) {
	counter := &counting{to: to}
	packed := gzip.NewWriter(counter)
	w := &writer{source: source, tar: tar.NewWriter(packed), now: time.Now().UTC(), wanted: map[string]map[string]string{}, expired: map[string]bool{}}
	err := w.write(ctx)
	if err == nil {
		err = errors.Join(w.tar.Close(), packed.Close())
	}
	w.summary.Bytes = counter.n
	return w.summary, err
}

type counting struct {
	to io.Writer
	n  int64
}

func (c *counting) Write(b []byte) (int, error) {
	n, err := c.to.Write(b)
	c.n += int64(n)
	return n, err
}

func (w *writer) write(ctx context.Context) error {
	manifest, err := json.Marshal(Manifest{Format: format, At: w.now, LogID: w.source.Log.LogID, KeyID: w.source.KeyID})
	if err != nil {
		return fmt.Errorf("describe the backup: %w", err)
	}
	if err := w.add("manifest.json", manifest); err != nil {
		return err
	}
	ends, err := w.source.Log.Ends(ctx, w.source.Log.Partitions()...)
	if err != nil {
		return err
	}
	for _, partition := range w.source.Log.Partitions() {
		if err := w.writePartition(ctx, partition, ends[partition]); err != nil {
			return fmt.Errorf("save %s: %w", partition, err)
		}
	}
	if err := w.writeBlobs(ctx); err != nil {
		return err
	}
	if err := w.missing(); err != nil {
		return err
	}
	return w.writeKeys()
}

// missing tells of a blob that a saved record needs and that is not saved.
func (w *writer) missing() error {
	for sum, records := range w.wanted {
		for id, place := range records {
			if !w.expired[id] {
				return fmt.Errorf("the blob store does not have %s, which the record at %s refers to: "+
					"is MILLRACE_BLOB the store of this installation?", sum, place)
			}
		}
	}
	return nil
}

func (w *writer) add(name string, content []byte) error {
	header := &tar.Header{Name: name, Mode: 0o600, Size: int64(len(content)), ModTime: w.now, Format: tar.FormatPAX}
	if err := w.tar.WriteHeader(header); err != nil {
		return fmt.Errorf("save %s: %w", name, err)
	}
	if _, err := w.tar.Write(content); err != nil {
		return fmt.Errorf("save %s: %w", name, err)
	}
	return nil
}

// writePartition saves what is archived, then what only the log has yet.
func (w *writer) writePartition(ctx context.Context, partition eventlog.Partition, end int64) error {
	part := 0
	next := eventlog.Place{Epoch: w.source.Epoch}
	save := func(epoch uint32, records []eventlog.Record) error {
		part++
		next = eventlog.Place{Epoch: epoch, Offset: records[len(records)-1].Offset + 1}
		return w.writePart(partition, part, epoch, records)
	}
	until := eventlog.Place{Epoch: w.source.Epoch, Offset: end}
	if err := w.source.Archive.Read(ctx, partition, eventlog.Place{}, until, save); err != nil {
		return err
	}
	if next.Epoch < w.source.Epoch {
		next = eventlog.Place{Epoch: w.source.Epoch}
	}
	for next.Offset < end {
		records, err := w.source.Log.Fetch(ctx, partition, next.Offset, 8<<20)
		if errors.Is(err, eventlog.ErrTrimmed) {
			// It was archived and trimmed meanwhile.
			err = w.source.Archive.Read(ctx, partition, next, until, save)
		}
		if err != nil {
			return err
		}
		for len(records) > 0 && records[len(records)-1].Offset >= end {
			records = records[:len(records)-1]
		}
		for chunk := range chunks(records) {
			if err := save(w.source.Epoch, chunk); err != nil {
				return err
			}
		}
	}
	return nil
}

func chunks(records []eventlog.Record) func(func([]eventlog.Record) bool) {
	return func(yield func([]eventlog.Record) bool) {
		for len(records) > 0 {
			n := min(len(records), partRecords)
			if !yield(records[:n]) {
				return
			}
			records = records[n:]
		}
	}
}

func (w *writer) writePart(partition eventlog.Partition, part int, epoch uint32, records []eventlog.Record) error {
	var content bytes.Buffer
	for i := range records {
		if err := w.look(&records[i]); err != nil {
			return err
		}
		if _, err := protodelim.MarshalTo(&content, w.archived(epoch, &records[i])); err != nil {
			return fmt.Errorf("encode the record at %d: %w", records[i].Offset, err)
		}
	}
	w.summary.Records += int64(len(records))
	if w.source.Progress != nil {
		w.source.Progress(w.summary.Records)
	}
	return w.add(fmt.Sprintf("log/%s-%d-%06d", partition.Topic, partition.ID, part), content.Bytes())
}

// look notes what the backup must have for a record, and refuses a log whose secrets the key does not open.
func (w *writer) look(r *eventlog.Record) error {
	switch {
	case r.Type == eventlog.TypeOf(&event.JobFileExpired{}):
		w.expired[string(r.Key)] = true
	case r.DataRef != "":
		if w.wanted[r.DataRef] == nil {
			w.wanted[r.DataRef] = map[string]string{}
		}
		w.wanted[r.DataRef][r.ID.String()] = fmt.Sprintf("%s=%d", r.Partition, r.Offset)
	}
	if w.keyID != "" || r.Partition.Topic != eventlog.Registry || r.Malformed != nil {
		return nil
	}
	payload, err := r.Decode()
	started, ok := payload.(*event.LogStarted)
	if err != nil || !ok {
		return nil //nolint:nilerr // what this version does not know is saved as it is
	}
	w.keyID = started.GetKeyId()
	if w.keyID != w.source.KeyID {
		return fmt.Errorf("the log was started under the installation key %s, the key file %s holds %s: set MILLRACE_KEY_FILE to the key of this installation",
			w.keyID, w.source.KeyFile, w.source.KeyID)
	}
	return nil
}

func (w *writer) archived(epoch uint32, r *eventlog.Record) *event.ArchivedRecord {
	archived := &event.ArchivedRecord{
		Place: &event.Place{
			Epoch: epoch, Topic: r.Partition.Topic, Partition: int32(r.Partition.ID), Offset: r.Offset,
		},
		LogTime: r.LogTime, Key: r.Key, Value: r.Data,
	}
	if epoch == w.source.Epoch {
		archived.LogId = w.source.Log.LogID
	}
	for _, h := range r.Headers {
		archived.Headers = append(archived.Headers, &event.RecordHeader{Key: h.Key, Value: h.Value})
	}
	return archived
}

func (w *writer) writeBlobs(ctx context.Context) error {
	return w.source.Blobs.Each(ctx, func(ref blob.Ref) error {
		content, err := w.source.Blobs.Get(ctx, ref)
		if errors.Is(err, blob.ErrNotFound) {
			return nil // collected meanwhile: no record refers to it
		}
		if err != nil {
			return err
		}
		defer func() { _ = content.Close() }()
		name := "blobs/" + ref.String()
		header := &tar.Header{Name: name, Mode: 0o600, Size: ref.Size, ModTime: w.now, Format: tar.FormatPAX}
		if err := w.tar.WriteHeader(header); err != nil {
			return fmt.Errorf("save %s: %w", name, err)
		}
		if _, err := io.Copy(w.tar, content); err != nil {
			return fmt.Errorf("save %s: %w", name, err)
		}
		w.summary.Blobs++
		delete(w.wanted, ref.String())
		return nil
	})
}

func (w *writer) writeKeys() error {
	key, err := os.ReadFile(w.source.KeyFile)
	if err != nil {
		return fmt.Errorf("save the installation's key: %w", err)
	}
	if err := w.add("key", key); err != nil {
		return err
	}
	folder := w.source.KeyFile + ".subjects"
	err = filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // erased meanwhile
		}
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		return w.add("key.subjects/"+filepath.ToSlash(relative), content)
	})
	if err != nil {
		return fmt.Errorf("save the keys of subjects: %w", err)
	}
	return nil
}
