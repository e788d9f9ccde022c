// Package demo carries a recorded history of real benchmark runs, and loads it into a Millrace, so that a new one has
// trends to show. history/README.md says where the runs come from.
package demo

import (
	"archive/tar"
	"bytes"
	"context"
	_ "embed" // for the history
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"

	"github.com/klauspost/compress/zstd"

	"github.com/millrace/millrace/loadtest/pgbench/uploader"
)

//go:embed history/history.tar.zst
var history []byte

// Runs is the number of documents in the history.
const Runs = 40

// Document is one upload of the PostgreSQL Performance Farm.
type Document struct {
	Name string // file name within the history, such as "001.json"
	Body []byte // JSON
}

// Documents gives the history in the order in which the runs were made. An error ends it, and means that the program
// was built from a damaged history.
func Documents() iter.Seq2[Document, error] {
	return documents(history)
}

func documents(archive []byte) iter.Seq2[Document, error] {
	return func(yield func(Document, error) bool) {
		unpacked, err := zstd.NewReader(bytes.NewReader(archive), zstd.WithDecoderConcurrency(1))
		if err != nil {
			yield(Document{}, fmt.Errorf("open the recorded history: %w", err))
			return
		}
		defer unpacked.Close()
		files := tar.NewReader(unpacked)
		for {
			document, err := next(files)
			if errors.Is(err, io.EOF) {
				return
			}
			if !yield(document, err) || err != nil {
				return
			}
		}
	}
}

func next(files *tar.Reader) (Document, error) {
	header, err := files.Next()
	if errors.Is(err, io.EOF) {
		return Document{}, io.EOF
	}
	if err != nil {
		return Document{}, fmt.Errorf("read the recorded history: %w", err)
	}
	var body bytes.Buffer
	if _, err := body.ReadFrom(files); err != nil {
		return Document{}, fmt.Errorf("read %s of the recorded history: %w", header.Name, err)
	}
	return Document{Name: header.Name, Body: body.Bytes()}, nil
}

// Progress tells of one uploaded document.
type Progress struct {
	Document string
	Number   int // from 1 to Runs
	Outcome  uploader.Outcome
}

// Summary counts what became of the documents.
type Summary struct {
	Stored  int // new to the server
	Present int // stored by an earlier load
}

// Load uploads the history in order to the server at baseURL, as the machine that secret belongs to, which must be
// approved. It waits while the server is not ready. The first refusal ends it, with the document's name and the server's
// reason (an *uploader.Refusal). A load that was cut off can be repeated: runs that are there already count as present.
func Load(ctx context.Context, client *http.Client, baseURL, secret string, progress func(Progress)) (Summary, error) {
	up := &uploader.Client{HTTP: client, BaseURL: baseURL, Secret: secret}
	var summary Summary
	for document, err := range Documents() {
		if err != nil {
			return summary, err
		}
		outcome, err := up.Upload(ctx, document.Body)
		if err != nil {
			return summary, fmt.Errorf("load %s of the recorded history: %w", document.Name, err)
		}
		if outcome == uploader.Stored {
			summary.Stored++
		} else {
			summary.Present++
		}
		progress(Progress{Document: document.Name, Number: summary.Stored + summary.Present, Outcome: outcome})
	}
	return summary, nil
}
