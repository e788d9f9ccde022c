package clickhouse

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
)

// extract takes the library out of the verified tarball and puts it in its place, whole and verified, or not at all.
func (f fetcher) extract() error {
	file, err := os.Open(f.tarballPath())
	if err != nil {
		return err
	}
	defer file.Close()
	unpacked, err := gzip.NewReader(file)
	if err != nil {
		return fmt.Errorf("unpack %s: %w", f.tarballPath(), err)
	}
	members := tar.NewReader(unpacked)
	for {
		member, err := members.Next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("unpack %s: it holds no %s", f.tarballPath(), f.release.member)
		}
		if err != nil {
			return fmt.Errorf("unpack %s: %w", f.tarballPath(), err)
		}
		if member.Name == f.release.member {
			return f.install(members)
		}
	}
}

func (f fetcher) install(content io.Reader) error {
	fmt.Fprintf(f.progress, "millrace: unpacking ClickHouse to %s (%d MB)\n", f.dir, f.release.size>>20)
	temporary := f.libraryPath() + ".new"
	file, err := os.OpenFile(temporary, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	sum := sha256.New()
	_, err = io.Copy(io.MultiWriter(file, sum), io.LimitReader(content, f.release.size))
	if err == nil {
		err = f.checkLibrary(sum)
	}
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(fmt.Errorf("unpack ClickHouse: %w", err), os.Remove(temporary))
	}
	return os.Rename(temporary, f.libraryPath())
}
