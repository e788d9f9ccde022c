package subscription

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/schemas/event"
	"github.com/millrace/millrace/schemas/keyring"
)

// purpose is part of the log's format and never changes.
const purpose = "subscription-target"

// SealTarget seals where a subscription's deliveries go, and what they are signed with.
func SealTarget(ring *keyring.Keyring, target *event.SubscriptionTarget) ([]byte, error) {
	plain, err := proto.Marshal(target)
	if err != nil {
		return nil, fmt.Errorf("encode a subscription's target: %w", err)
	}
	return ring.Seal(purpose, plain), nil
}

// OpenTarget opens what SealTarget made.
func OpenTarget(ring *keyring.Keyring, sealed []byte) (*event.SubscriptionTarget, error) {
	plain, err := ring.Open(purpose, sealed)
	if err != nil {
		return nil, fmt.Errorf("open a subscription's target: %w", err)
	}
	target := new(event.SubscriptionTarget)
	if err := proto.Unmarshal(plain, target); err != nil {
		return nil, fmt.Errorf("decode a subscription's target: %w", err)
	}
	return target, nil
}
