package e2e

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/millrace/millrace/deploy/standalone/engines/apachekafka"
)

// replicas of every topic; two of them must have a write before it is acknowledged.
const replicas = 3

// startServicesOnApacheKafka runs Millrace as services on a cluster of Apache Kafka from its jars.
func startServicesOnApacheKafka(ctx context.Context, dir string) (installation, error) {
	e := &engines{}
	if err := e.startApacheKafka(ctx, dir); err != nil {
		return nil, errors.Join(err, e.close())
	}
	return startServices(ctx, dir, e)
}

func (e *engines) startApacheKafka(ctx context.Context, dir string) error {
	folder := filepath.Join(dir, "kafka")
	if err := os.Mkdir(folder, 0o700); err != nil {
		return err
	}
	var err error
	if e.cluster, err = apachekafka.Start(ctx, folder, replicas); err != nil {
		return err
	}
	e.onEnd(func() error { e.cluster.Close(); return nil })
	e.kafka = strings.Join(e.cluster.Brokers(), ",")
	return nil
}

func TestUploadsGoOnWhileABrokerIsKilledAndNoneIsLostOrDoubled(t *testing.T) {
	lab := start(t, "apachekafka")
	cluster := lab.installation.(*processes).engines.cluster
	machine := lab.Machine(t)
	const senders, each = 4, 40
	half := make(chan struct{}) // closed when a sender is half through
	var once sync.Once
	var wait sync.WaitGroup
	for sender := range senders {
		wait.Go(func() {
			for n := range each {
				if n == each/2 {
					once.Do(func() { close(half) })
				}
				url := lab.Ingest()[sender%len(lab.Ingest())] + uploadPath
				answer, err := try(t.Context(), http.MethodPost, url, document(sender*each+n), "Authorization", machine.Secret)
				if err != nil || answer.Status != http.StatusCreated {
					t.Errorf("upload %d of sender %d while a broker is gone: %v, status %d %s", n, sender, err, answer.Status, answer.Body)
				}
			}
		})
	}
	<-half
	if err := cluster.Kill(0); err != nil {
		t.Fatal(err)
	}
	wait.Wait()
	if err := cluster.Restart(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	lab.Settle(t)
	var owned []struct {
		Count int `json:"count"`
	}
	lab.SignIn(t, machine.Owner).Get(t, "/machine/user").Want(t, http.StatusOK).JSON(t, &owned)
	if len(owned) != 1 || owned[0].Count != senders*each {
		t.Errorf("the owner's machines are %+v, want one with %d runs", owned, senders*each)
	}
}
