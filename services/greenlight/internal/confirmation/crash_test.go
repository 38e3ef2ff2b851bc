package confirmation

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/testkit/crashtest"
)

// Odd operations issue a phrase with their number. Even ones issue and use a phrase.
func TestCrash(t *testing.T) {
	crashtest.Run(t, crashtest.Writer{
		Name: "phrases",
		Write: func(dir string, op int, tell *crashtest.Teller) error {
			l := NewLedger(dir)
			phrase := func(text string, op int) (*Ticket, error) {
				return l.Issue(time.Hour, func(nonce string, _ time.Time) (string, any, error) {
					return fmt.Sprintf("%s %d nonce=%s", text, op, nonce), plan{}, nil
				})
			}
			for ; ; op++ {
				tell.Begin(op)
				text := "issued"
				if op%2 == 0 {
					text = "used"
				}
				ticket, err := phrase(text, op)
				if err == nil && op%2 == 0 {
					err = l.Use(ticket)
				}
				if err != nil {
					return err
				}
				tell.Done(op)
			}
		},
		Read: func(dir string) ([]int, error) {
			l := NewLedger(dir)
			entries, err := os.ReadDir(dir)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return nil, err
			}
			var found []int
			for _, e := range entries {
				if strings.HasPrefix(e.Name(), ".") {
					continue
				}
				nonce, isTicket := strings.CutSuffix(e.Name(), ".json")
				if !isTicket {
					nonce = strings.TrimSuffix(nonce, ".used")
				}
				raw, err := os.ReadFile(filepath.Join(dir, nonce+".json"))
				if err != nil {
					return nil, err
				}
				_, rest, _ := strings.Cut(string(raw), `"phrase":"`)
				phrase, _, _ := strings.Cut(rest, `"`)
				var text string
				var op int
				if _, err := fmt.Sscan(phrase, &text, &op); err != nil {
					return nil, err
				}
				_, err = l.Find(phrase)
				used := errors.Is(err, ErrUsed)
				if err != nil && !used {
					return nil, err
				}
				if isTicket && (used || text == "issued") {
					found = append(found, op)
				}
			}
			return found, nil
		},
	})
}
