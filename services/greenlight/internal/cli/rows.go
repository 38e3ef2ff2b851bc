package cli

import (
	"errors"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/featurelog"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/rows"
)

func rowsCommand(c console.Console) *cobra.Command {
	cmd := &cobra.Command{Use: "rows", Short: "Collect the rows that executors log", Args: console.NoArgs}
	cmd.AddCommand(rowsPushCommand(c))
	return cmd
}

// rowsPush has the flags of greenlight rows push.
type rowsPush struct {
	store             flags.Rows
	log, to, executor string
	follow            bool
	interval          time.Duration
	// show prints the result with --output json.
	show func(*rows.Pushed) error
}

func rowsPushCommand(c console.Console) *cobra.Command {
	var p rowsPush
	cmd := &cobra.Command{
		Use: "push --feature-log DIR --to s3://BUCKET/PREFIX", Short: "Copy the complete parts of a feature log to S3-compatible storage",
		Long: `Push runs next to an executor and copies the parts of its feature log to a bucket, below executor=<id>. The parts of
several executors below one prefix form a dataset: retrain --log, quality --feature-log and drift compare read it from
s3://BUCKET/PREFIX, or from a copy in a folder.

It copies only complete parts, each once: it compares the size and the SHA-256 of an existing object. An object with different
content is an error and is not replaced. Objects are written completely or not at all, so an interrupted push can be run again.
With --follow it copies new parts until it is interrupted, and retries if the store does not answer.

Credentials come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or from the shared file of AWS
(~/.aws/credentials; AWS_SHARED_CREDENTIALS_FILE, AWS_PROFILE). They need s3:PutObject, s3:GetObject and s3:ListBucket.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if p.log == "" || p.to == "" {
				return console.Usagef("give --feature-log and --to")
			}
			if !rows.IsURL(p.to) {
				return console.Usagef("--to %q: want s3://bucket/prefix", p.to)
			}
			if err := p.store.Validate(p.to); err != nil {
				return err
			}
			return flags.RowsHint(p.run(cmd, c))
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&p.log, "feature-log", "", "folder of the executor's feature log")
	fs.StringVar(&p.to, "to", "", "`URL` of the dataset: s3://bucket/prefix")
	fs.StringVar(&p.executor, "executor-id", "", "name of the executor in the dataset; by default the name of this host. It must not change for a folder")
	fs.BoolVar(&p.follow, "follow", false, "copy new parts until interrupted")
	fs.DurationVar(&p.interval, "interval", featurelog.DefaultInterval, "with --follow: time between two searches for new parts")
	console.Require(fs, "interval", "more than 0", func() bool { return p.interval > 0 })
	p.store.Declare(fs)
	p.show = console.Outputs[*rows.Pushed](c, cmd, rows.PushSchema)
	return cmd
}

func (p *rowsPush) run(cmd *cobra.Command, c console.Console) error {
	id := p.executor
	if id == "" {
		var err error
		if id, err = os.Hostname(); err != nil {
			return console.WithHint(err, "set the name of the executor with --executor-id")
		}
	}
	push, err := rows.NewPush(p.store.Store, featurelog.Log{Dir: p.log}, p.to, id)
	if err != nil {
		return console.Usage(err)
	}
	push.Progress = c.Progress("pushing")
	if p.follow {
		push.Say = c.Say
		err = push.Follow(cmd.Context(), p.interval)
	} else {
		err = push.Once(cmd.Context())
	}
	r := push.Pushed()
	c.Say("pushed    %s, %d bytes, to %s as executor %s", text.Count(r.Uploaded, "part"), r.UploadedBytes, r.To, r.Executor)
	c.Say("          %d existed already, %d are not complete yet", r.Present, r.Growing)
	return errors.Join(err, push.Err(), p.show(r))
}
