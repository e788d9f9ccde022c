package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// recorder writes documents to the folder, numbered on from those that are there.
func recorder(folder string) (destination, error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, fmt.Errorf("make the folder to record in: %w", err)
	}
	return func(_ context.Context, document []byte) (string, error) {
		name, err := writeNext(folder, document)
		if err != nil {
			return "", fmt.Errorf("record the document: %w", err)
		}
		return "recorded as " + name, nil
	}, nil
}

// writeNext writes to the first number that is free, and never over a file.
func writeNext(folder string, content []byte) (name string, err error) {
	for number := 1; ; number++ {
		name = filepath.Join(folder, fmt.Sprintf("%03d.json", number))
		file, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		_, err = file.Write(content)
		return name, errors.Join(err, file.Close())
	}
}
