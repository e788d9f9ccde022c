package worker

import (
	"fmt"
	"io"
	"os"
)

// transcript shows what a command writes, and keeps the first bytes of it in a file.
type transcript struct {
	show io.Writer
	file *os.File
	most int64
	kept int64
	cut  int64
	err  error // of the file; what is shown goes on
}

func newTranscript(show io.Writer, most int64) (*transcript, error) {
	file, err := os.CreateTemp("", "millrace-output-")
	if err != nil {
		return nil, fmt.Errorf("make a file for the command's output (TMPDIR names its folder): %w", err)
	}
	return &transcript{show: show, file: file, most: most}, nil
}

func (t *transcript) Write(b []byte) (int, error) {
	keep := b[:min(int64(len(b)), t.most-t.kept)]
	if t.err == nil {
		_, t.err = t.file.Write(keep)
	}
	t.kept += int64(len(keep))
	t.cut += int64(len(b) - len(keep))
	return t.show.Write(b)
}

// finish says at the file's end what is cut, and gives its size; nothing is in it when nothing was to be kept.
func (t *transcript) finish() (int64, error) {
	if t.err != nil {
		return 0, fmt.Errorf("keep the output: %w", t.err)
	}
	if t.cut > 0 && t.most > 0 {
		said, err := fmt.Fprintf(t.file, "\n[cut here: %d bytes more, beyond the worker's --output-bytes %d]\n", t.cut, t.most)
		if err != nil {
			return 0, fmt.Errorf("keep the output: %w", err)
		}
		return t.kept + int64(said), nil
	}
	return t.kept, nil
}

func (t *transcript) close() {
	_ = t.file.Close()
	_ = os.Remove(t.file.Name()) // what stays is a temporary file
}
