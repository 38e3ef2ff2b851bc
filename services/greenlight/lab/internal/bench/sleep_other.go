//go:build !linux

package bench

import "time"

func preciseSleep() (sleep func(time.Duration), done func()) { return time.Sleep, func() {} }
