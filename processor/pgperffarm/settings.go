package pgperffarm

import (
	"bufio"
	"encoding/csv"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
)

// settings reads the CSV of pg_settings and keeps what somebody has set: the rows whose source is neither default nor
// client.
func (p *parser) settings() {
	p.need("postgres_settings")
	text := p.text(0)
	if p.err != nil {
		return
	}
	buffered := csvBuffers.Get().(*bufio.Reader)
	buffered.Reset(strings.NewReader(text))
	defer func() {
		buffered.Reset(nil) // the text need not live as long
		csvBuffers.Put(buffered)
	}()
	rows := csv.NewReader(buffered)
	rows.ReuseRecord = true
	columns, bad := settingColumns(rows)
	seen := make(map[string]struct{})
	for bad == "" {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			bad = "is not the CSV of the settings: " + err.Error()
			break
		}
		s := Setting{Name: row[columns.name], Value: row[columns.value], Source: row[columns.source]}
		if s.Source == "default" || s.Source == "client" {
			continue
		}
		if _, again := seen[s.Name]; again {
			bad = "names the setting " + shown([]byte(s.Name)) + " twice"
			break
		}
		seen[s.Name] = struct{}{}
		p.doc.Settings = append(p.doc.Settings, s)
	}
	if bad != "" {
		p.fail("%s", bad)
	}
	p.roomFor(new(int), len(p.doc.Settings), "settings")
}

// csvBuffers keeps the buffers of CSV readers: one is larger than all else that a small document needs.
var csvBuffers = sync.Pool{New: func() any { return bufio.NewReader(nil) }}

type settingIndexes struct{ name, value, source int }

// settingColumns reads the header.
func settingColumns(rows *csv.Reader) (settingIndexes, string) {
	header, err := rows.Read()
	columns := settingIndexes{
		name:   slices.Index(header, "name"),
		value:  slices.Index(header, "setting"),
		source: slices.Index(header, "source"),
	}
	if err != nil || columns.name < 0 || columns.value < 0 || columns.source < 0 {
		return columns, "does not begin with the CSV header name,setting,source"
	}
	return columns, ""
}
