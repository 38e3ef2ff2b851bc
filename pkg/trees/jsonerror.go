package trees

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// jsonError says what a reader of a model should make of an error of encoding/json.
func jsonError(raw []byte, err error) error {
	var syntax *json.SyntaxError
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the file is cut short")
	case !errors.As(err, &syntax):
		return err
	case syntax.Offset >= int64(len(raw)):
		return errors.New("the file is cut short")
	case strings.Contains(syntax.Error(), "'N' looking for") || strings.Contains(syntax.Error(), "'I' looking for"):
		// Python's json writes these for numbers that are not finite.
		return fmt.Errorf("the file holds NaN or Infinity, which a usable model does not: %w", err)
	}
	return err
}
