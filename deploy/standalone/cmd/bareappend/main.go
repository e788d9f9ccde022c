// Command bareappend is what Millrace's uploads are measured against: a Gin handler that appends a request's body to an
// embedded log and answers once the log has acknowledged it, and does nothing else. It appends with the same appender to
// the same kind of log, in a folder of its own, and every write is synced.
//
//	bareappend FOLDER
//
// prints its address as URL=http://127.0.0.1:PORT and serves until its standard input closes.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/deploy/standalone/engines/kafka"
	"github.com/millrace/millrace/schemas/eventlog"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bareappend:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	if len(args) != 1 {
		return errors.New("usage: bareappend FOLDER")
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	broker, err := kafka.Start(ctx, kafka.Options{Dir: filepath.Join(args[0], "log"), Logger: logger})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, broker.Close()) }()
	log, err := eventlog.Dial(ctx, eventlog.Config{Brokers: []string{broker.Addr()}})
	if err != nil {
		return err
	}
	defer log.Close()
	appender := eventlog.NewAppender(log, eventlog.AppenderConfig{MaxWaiting: 64 << 20}, prometheus.NewRegistry(), logger)
	defer appender.Close()
	return serve(appender)
}

func serve(appender *eventlog.Appender) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	server := &http.Server{Handler: handler(appender), ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	fmt.Printf("URL=http://%s\n", listener.Addr())
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		ended <- err
	}()
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case err := <-ended:
		return errors.Join(err, server.Close())
	}
}

// maxBody is the largest body: one that fits a record.
const maxBody = 500 << 10

func handler(appender *eventlog.Appender) http.Handler {
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	partition := eventlog.Partition{Topic: eventlog.Runs}
	engine.POST("/append", func(c *gin.Context) {
		if c.Request.ContentLength < 0 || c.Request.ContentLength > maxBody {
			c.Status(http.StatusRequestEntityTooLarge)
			return
		}
		body := make([]byte, c.Request.ContentLength)
		if _, err := io.ReadFull(c.Request.Body, body); err != nil {
			c.Status(http.StatusBadRequest)
			return
		}
		id, err := uuid.NewV7()
		if err != nil {
			c.Status(http.StatusInternalServerError)
			return
		}
		event := eventlog.Event{ID: id, Type: "bare", Source: "/bare", Time: time.Now().UTC(), Data: body}
		if _, err := appender.Append(c.Request.Context(), partition, event); err != nil {
			c.Status(http.StatusServiceUnavailable)
			return
		}
		c.Status(http.StatusCreated)
	})
	return engine
}
