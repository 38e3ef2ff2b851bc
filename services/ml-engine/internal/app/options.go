package app

import (
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/oci"
	"github.com/greenlight-ml/greenlight/pkg/serve"
)

// Options configures ml-engine.
type Options struct {
	serve.Options

	// Models is the registry folder, or a repository of an OCI registry, oci://registry/repository. Model is the entry to serve:
	// "name/version", or a version that only one name has.
	Models, Model string
	// Cache is the registry folder into which a repository's models are copied. ModelsPeriod is the time between two polls
	// of its tags. PlainHTTP reaches a registry that is not on loopback without TLS.
	Cache        string
	ModelsPeriod time.Duration
	PlainHTTP    bool
	// RequireSignature is a file of public keys. Only models signed with one of them are served. Empty requires no signature.
	RequireSignature string
	// StateDir is the folder that keeps the active model, the previous one and the drift counts across restarts. Empty keeps
	// nothing. DriftClock selects the hour in which a row is counted: the hour of its arrival, or of its event.
	StateDir, DriftClock string
	// MaxEventAhead is how far the time of an event may be ahead of this machine's clock; 0 is no limit.
	MaxEventAhead time.Duration
}

// Flags declares the options as flags.
func Flags(fs *flag.FlagSet) *Options {
	o := &Options{}
	fs.StringVar(&o.Models, "models", "models", "registry `folder`, laid out as <name>/<version>/, or oci://registry/repository, whose tags are versions")
	fs.StringVar(&o.Cache, "cache", "", "`folder` into which the models of an oci:// repository are copied, and from which they are served, even while the registry is unavailable")
	fs.DurationVar(&o.ModelsPeriod, "models-period", time.Minute, "how often to read the tags of an oci:// repository; less often after failures, down to every 15 minutes")
	fs.BoolVar(&o.PlainHTTP, "models-plain-http", false, "reach the registry of an oci:// repository without TLS; always so on loopback")
	fs.StringVar(&o.Model, "model", "", "`model` to serve at the first start: name/version, or a version if only one name has it (required); with --state-dir a later activation survives a restart")
	fs.StringVar(&o.RequireSignature, "require-signature", "", "`file` with public keys (PEM); only models signed with one of them are served")
	o.Options.Declare(fs, "127.0.0.1:4010", "127.0.0.1:4011", "ModelRegistryService")
	fs.StringVar(&o.StateDir, "state-dir", "", "`folder` that keeps the active model, the previous one and the drift counts across restarts; empty is off")
	fs.StringVar(&o.DriftClock, "drift-clock", arrivalClock, "`clock` for counting drift: arrival, or event (the time in the request) for a replay of past data")
	fs.DurationVar(&o.MaxEventAhead, "max-event-ahead", time.Minute, "with --drift-clock event, how far the time of an event may be ahead of this machine's clock; a time further ahead is ignored; 0 is no limit")
	return o
}

// The clocks of --drift-clock.
const (
	arrivalClock = "arrival"
	eventClock   = "event"
)

func (o *Options) validate() error {
	if o.DriftClock != arrivalClock && o.DriftClock != eventClock {
		return fmt.Errorf("--drift-clock %q: want %s or %s", o.DriftClock, arrivalClock, eventClock)
	}
	if o.MaxEventAhead < 0 {
		return fmt.Errorf("--max-event-ahead %v: want 0 or more", o.MaxEventAhead)
	}
	if err := o.validateRepository(); err != nil {
		return err
	}
	if o.Model == "" {
		return errors.New("no model: give --model (greenlight train makes one)")
	}
	return o.Options.Validate()
}

// validateRepository checks the flags of a repository.
func (o *Options) validateRepository() error {
	if !oci.Is(o.Models) {
		if o.Cache != "" {
			return errors.New("--cache is for --models oci://registry/repository")
		}
		return nil
	}
	ref, err := oci.Parse(o.Models)
	switch {
	case err != nil:
		return fmt.Errorf("--models: %w", err)
	case ref.Version != "":
		return fmt.Errorf("--models %s: give the repository without a tag or digest, and the version with --model", ref)
	case o.Cache == "":
		return errors.New("--models oci://: give a folder for the models, --cache")
	case o.ModelsPeriod < time.Second:
		return fmt.Errorf("--models-period %v: want at least 1s", o.ModelsPeriod)
	}
	return nil
}
