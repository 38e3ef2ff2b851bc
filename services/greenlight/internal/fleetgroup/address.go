package fleetgroup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"

	"github.com/greenlight-ml/greenlight/pkg/group/natsgroup"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// Address is the location of a group.
type Address struct {
	// URL lists the NATS servers, separated by commas: nats://host:4222 or tls://host:4222.
	URL string `json:"url"`
	// Group is the name of the group.
	Group string `json:"group"`
	// Creds is the file with the credentials, CA the file with the trusted CA certificates; both may be empty.
	Creds string `json:"creds,omitempty"`
	CA    string `json:"ca,omitempty"`
}

// Needed returns the smallest number of executors that is at least the fraction part, in (0,1], of those present; at least
// one.
func Needed(part float64, present int) int { return max(1, int(math.Ceil(part*float64(present)-1e-9))) }

// Use connects to the group, calls use, and disconnects. Without a key, use can only read.
func Use(a Address, access fleet.Access, use func(*Group) error) error {
	logger := slog.New(slog.DiscardHandler)
	if access.Logger != nil {
		logger = slog.New(warnings{access.Logger.Handler()})
	}
	c, err := natsgroup.Open(natsgroup.Options{URL: a.URL, Group: a.Group, Creds: a.Creds, CA: a.CA, Name: "greenlight " + Issuer(), Logger: logger})
	if err != nil {
		return fmt.Errorf("--fleet: %w", err)
	}
	defer c.Close()
	g, err := Open(Options{Group: a.Group, Signer: access.FleetKey, Carrier: c, Logger: logger})
	if err != nil {
		return err
	}
	defer g.Close()
	return use(g)
}

// warnings drops messages below a warning: a command need not log that it has connected.
type warnings struct{ slog.Handler }

// Enabled implements slog.Handler.
func (w warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && w.Handler.Enabled(ctx, level)
}

// UseServices is [Use] with the executors that are present and the ml-engines at the addresses, as services. It sends the
// brake first.
func UseServices(ctx context.Context, a Address, access fleet.Access, engines []string, brake Brake, use func(*fleet.Services, *Group) error) error {
	return Use(a, access, func(g *Group) error {
		return g.Brake(ctx, brake, func() error {
			services, err := fleet.Dial(fleet.Options{Access: access, Engines: engines})
			if err != nil {
				return err
			}
			if err = g.Listen(ctx); err == nil {
				services.Executors, services.Recorded = g.Executors(), g.Recorders
				err = use(services, g)
			}
			return errors.Join(err, services.Close())
		})
	})
}
