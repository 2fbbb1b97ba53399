package unit

import (
	"testing"

	"github.com/vtclient/vtclient/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }
