package kafka_test

import (
	"errors"
	"io"
	"log/slog"
	"slices"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/millrace/millrace/deploy/standalone/engines/kafka"
)

func benchBroker(b *testing.B) (string, *kafkago.Client) {
	broker, err := kafka.Start(b.Context(), kafka.Options{Dir: b.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = broker.Close() })
	c := client(b, broker.Addr())
	createTopic(b, c, topic)
	return broker.Addr(), c
}

// report gives the median and the 99th percentile of the times in microseconds.
func report(b *testing.B, times []time.Duration) {
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "p99-µs")
}

// BenchmarkProduce is one synced append of 300 bytes after the other.
func BenchmarkProduce(b *testing.B) {
	_, c := benchBroker(b)
	value := make([]byte, 300)
	var times []time.Duration
	for b.Loop() {
		began := time.Now()
		mustProduce(b, c, topic, value)
		times = append(times, time.Since(began))
	}
	report(b, times)
}

// BenchmarkAppendToFetch is the time from an acknowledged append until a waiting Client.Fetch has the record. It is
// negative when the reader is faster than the acknowledgement.
func BenchmarkAppendToFetch(b *testing.B) {
	_, c := benchBroker(b)
	arrived := make(chan time.Time)
	go func() {
		for offset := int64(0); b.Context().Err() == nil; {
			resp, err := c.Fetch(b.Context(), &kafkago.FetchRequest{Topic: topic, Offset: offset, MinBytes: 1, MaxBytes: 8 << 20, MaxWait: time.Second})
			if err != nil || resp.Error != nil {
				continue
			}
			for {
				if _, err := resp.Records.ReadRecord(); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					return
				}
				offset++
				arrived <- time.Now()
			}
		}
	}()
	measureArrivals(b, c, arrived)
}

// BenchmarkAppendToReader is the same for a kafka-go Reader.
func BenchmarkAppendToReader(b *testing.B) {
	addr, c := benchBroker(b)
	reader := kafkago.NewReader(kafkago.ReaderConfig{Brokers: []string{addr}, Topic: topic, MinBytes: 1, MaxBytes: 8 << 20, MaxWait: time.Second})
	b.Cleanup(func() { _ = reader.Close() })
	arrived := make(chan time.Time)
	go func() {
		for {
			if _, err := reader.ReadMessage(b.Context()); err != nil {
				return
			}
			arrived <- time.Now()
		}
	}()
	measureArrivals(b, c, arrived)
}

func measureArrivals(b *testing.B, c *kafkago.Client, arrived <-chan time.Time) {
	value := make([]byte, 300)
	mustProduce(b, c, topic, value)
	<-arrived
	var times []time.Duration
	for b.Loop() {
		mustProduce(b, c, topic, value)
		acknowledged := time.Now()
		times = append(times, (<-arrived).Sub(acknowledged))
	}
	report(b, times)
}
