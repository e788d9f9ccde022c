package app

import (
	"fmt"
	"time"

	"github.com/millrace/millrace/deploy/standalone/config"
	"github.com/millrace/millrace/ingest"
	"github.com/millrace/millrace/ingest/upload"
	"github.com/millrace/millrace/processor/subscription"
	"github.com/millrace/millrace/processor/webhook"
)

func filesConfig(c config.Config) upload.Config {
	return upload.Config{MaxBytes: c.Files.MaxBytes, Timeout: c.Files.Timeout}
}

func webhooksConfig(c config.Config) (ingest.WebhooksConfig, error) {
	allowed, err := webhook.ParseAllowed(c.Webhooks.AllowPrivate)
	if err != nil {
		return ingest.WebhooksConfig{}, fmt.Errorf("webhooks.allow_private: %w", err)
	}
	return ingest.WebhooksConfig{
		Allowed: allowed, Origins: c.Testflinger.WebhookOrigins, Secret: c.Testflinger.WebhookSecret,
		MaxSubscriptions: c.Webhooks.MaxSubscriptions,
	}, nil
}

// firstPause is the pause between the first attempt of a delivery and the second.
const firstPause = time.Second

func (p *process) newDeliveries() (*subscription.Deliverer, error) {
	c := p.options.Config
	webhooks, err := webhooksConfig(c)
	if err != nil {
		return nil, err
	}
	return subscription.New(subscription.Config{
		AtOnce: c.Webhooks.AtOnce, FirstPause: firstPause, MaxPause: c.Webhooks.MaxPause, Window: c.Webhooks.Window,
		SessionTimeout: c.Processor.SessionTimeout,
	}, subscription.Dependencies{
		Client: p.log, Appender: p.appender, DB: p.db, Generation: p.generation.Number, Epoch: p.epoch, Registry: p.registry, Keyring: p.keys,
		Webhook: webhook.New(webhook.Config{Allowed: webhooks.Allowed, Timeout: c.Webhooks.Timeout}), Now: time.Now, Metrics: p.metrics, Logger: p.logger,
	})
}
