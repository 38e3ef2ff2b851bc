package fleetgroup

import (
	"context"
	"errors"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/group"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// Address is where a group is.
type Address struct {
	// URL has the servers of NATS, separated by commas: nats://host:4222 or tls://host:4222.
	URL string `json:"url"`
	// Group is the name of the group.
	Group string `json:"group"`
	// Creds is the file with the credentials, CA that with the certificates that are trusted; both may be empty.
	Creds string `json:"creds,omitempty"`
	CA    string `json:"ca,omitempty"`
}

// carrier is a connection to a server.
type carrier interface {
	group.Carrier
	Close()
}

// connect connects to the servers.
func connect(Address) (carrier, error) { return nil, errors.New("not built yet") }

// Use connects to the group, hands it to use, and disconnects. The signer may be nil for commands that only read.
func Use(a Address, signer *dsse.Signer, use func(*Group) error) error {
	c, err := connect(a)
	if err != nil {
		return err
	}
	defer c.Close()
	g, err := Open(Options{Group: a.Group, Signer: signer, Carrier: c})
	if err != nil {
		return err
	}
	defer g.Close()
	return use(g)
}

// Brake is a stop that is sent before the executors are known; the zero value is none.
type Brake struct {
	Kind   fleetv1.StopKind
	Reason string
}

// UseServices is [Use] with the executors that are present and the ml-engines at the addresses, as services. The brake is sent
// first.
func UseServices(ctx context.Context, a Address, access fleet.Access, engines []string, brake Brake, use func(*fleet.Services, *Group) error) error {
	return Use(a, access.FleetKey, func(g *Group) error {
		if brake.Kind != fleetv1.StopKind_STOP_KIND_UNSPECIFIED {
			if err := g.StopNow(ctx, brake.Kind, brake.Reason); err != nil {
				return err
			}
		}
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
}
