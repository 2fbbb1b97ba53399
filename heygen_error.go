package vtclient

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// heygenAnswerError is the error about an answer of HeyGen's with a 2xx status code and
// without the member that it should have. Where the answer has an error instead, as in
// {"error":{"code":…,"message":…}}, that is what it returns; one whose code will not change
// with time matches [ErrFinal].
func heygenAnswerError(body []byte, missing string) error {
	var v struct {
		Error lenient[struct {
			Code    lenient[string] `json:"code"`
			Message lenient[string] `json:"message"`
		}] `json:"error"`
	}
	if json.Unmarshal(body, &v) != nil || v.Error.v.Code.v == "" {
		return errors.New("no " + missing + " in the answer")
	}
	return &heygenError{code: v.Error.v.Code.v, message: v.Error.v.Message.v}
}

type heygenError struct{ code, message string }

func (e *heygenError) Error() string {
	if e.message == "" {
		return fmt.Sprintf("the answer is an error, %s", quoteID(e.code))
	}
	return fmt.Sprintf("the answer is an error, %s: %s", quoteID(e.code), quoteID(e.message))
}

// Is reports that an error is final whose code is known to be. A code that is not known is
// taken for trouble that passes, as an unknown 5xx is.
func (e *heygenError) Is(target error) bool {
	if target != ErrFinal {
		return false
	}
	switch e.code {
	case "unauthorized", "forbidden", "resource_access_denied", "ai_vendor_access_restricted", "insufficient_credit",
		"not_found", "validation_error", "method_not_allowed", "payload_too_large", "voice_not_usable":
		return true
	}
	return strings.HasPrefix(e.code, "invalid_") || strings.HasSuffix(e.code, "_not_found")
}
