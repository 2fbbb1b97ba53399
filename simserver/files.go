package simserver

import (
	"crypto/hmac"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Downloads describes the files that completed jobs have for results, and the host that
// they are downloaded from, which is another than the API's as with real backends. The
// zero Downloads is none: the addresses of results then lead nowhere.
type Downloads struct {
	// Size is the length of each file in bytes. Its content follows from the seed and the
	// job's id. It must be above 0.
	Size int64

	// Expires is for how long an address is good, from the answer that it was in; after
	// that it is refused by 403, and the next answer about the job has a fresh one. 0: for
	// ever.
	Expires time.Duration

	// Cut is the share of the downloads, 0 to 1, whose connection is reset in the middle.
	Cut float64

	// Rate is how many bytes a second a download gets. 0: as many as it can.
	Rate int64

	// URL is the base URL at which [Server.Downloads] is reached. Empty: Start and
	// StartInMemory serve it on a host of its own; a server made by New needs the URL.
	URL string
}

// WithDownloads makes results that can be downloaded. The default is the zero Downloads.
// [New] panics if d has an impossible value.
func WithDownloads(d Downloads) Option { return func(c *config) { c.downloads = d } }

func (d Downloads) on() bool { return d != Downloads{} }

func (d Downloads) validate() error {
	switch {
	case !d.on():
		return nil
	case d.Size <= 0:
		return fmt.Errorf("simserver: Downloads.Size is %d: not above 0", d.Size)
	case !isRate(d.Cut):
		return fmt.Errorf("simserver: Downloads.Cut: %v is not between 0 and 1", d.Cut)
	case d.Expires < 0 || d.Rate < 0:
		return errors.New("simserver: Downloads.Expires or Rate is negative")
	}
	return nil
}

// Downloads returns the handler that serves the files of [WithDownloads]. It takes GET and
// HEAD, with Range, at the addresses that stand in answers, and refuses by 403 one that has
// expired or was changed, and by 400 a request with an API's credentials, as
// object stores do.
func (s *Server) Downloads() http.Handler { return s.files }

// Files are the results of jobs.
type files struct {
	dice
	cfg   Downloads
	host  string // in memory or of a listener of their own
	jobs  *jobs
	tally *tally
	done  chan struct{}
}

// result returns the members of the answer about a completed job, with a fresh address.
func (f *files) result(j *job) map[string]json.RawMessage {
	if !f.cfg.on() || f.cfg.URL == "" || !j.hasFile {
		return j.result
	}
	m := maps.Clone(j.result)
	m["video_url"], _ = json.Marshal(f.address(j.ID, time.Now()))
	return m
}

// address is where a job's file can be downloaded from now on.
func (f *files) address(id string, now time.Time) string {
	q := url.Values{}
	if f.cfg.Expires > 0 {
		q.Set("expires", strconv.FormatInt(now.Add(f.cfg.Expires).UnixMilli(), 10))
	}
	q.Set("signature", f.sign(id, q.Get("expires")))
	return f.cfg.URL + "/" + fileName(id) + "?" + q.Encode()
}

func (f *files) sign(id, expires string) string {
	var sum [8]byte
	n := f.rand("address "+expires, hash(id), 0).Uint64()
	for i := range sum {
		sum[i] = byte(n >> (8 * i))
	}
	return hex.EncodeToString(sum[:])
}

// ServeHTTP serves a file.
func (f *files) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, err := url.PathUnescape(strings.TrimPrefix(r.URL.EscapedPath(), "/"))
	id, isFile := strings.CutSuffix(name, ".mp4")
	j := f.jobs.get(id)
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		f.refuse(w, http.StatusMethodNotAllowed)
	case r.Header.Get("X-Api-Key") != "" || r.Header.Get("Authorization") != "":
		f.refuse(w, http.StatusBadRequest)
	case err != nil || !isFile || j == nil || j.state(time.Now()) != completed:
		f.refuse(w, http.StatusNotFound)
	case !f.good(id, r.URL.Query(), time.Now()):
		f.refuse(w, http.StatusForbidden)
	default:
		n := 0
		f.tally.count(func(c *counters) { n = c.downloads; c.downloads++ })
		w.Header().Set("Content-Type", "video/mp4")
		w.Header().Set("ETag", fmt.Sprintf("%q", strconv.FormatUint(mix(uint64(f.dice)^hash(id)), 16)))
		out := &slowWriter{ResponseWriter: w, rate: f.cfg.Rate, done: f.done, gone: r.Context().Done(), left: -1}
		if f.rand("cut", hash(id), n).Float64() < f.cfg.Cut {
			out.left = f.rand("cut at", hash(id), n).Int64N(f.cfg.Size)
		}
		http.ServeContent(out, r, "", time.Time{}, &content{size: f.cfg.Size, seed: mix(uint64(f.dice) ^ hash(id))})
	}
}

func (f *files) refuse(w http.ResponseWriter, code int) {
	f.tally.count(func(c *counters) { c.downloadsRefused++ })
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(code)
	fmt.Fprintf(w, "<?xml version=\"1.0\"?><Error><Code>%s</Code></Error>\n", strings.ReplaceAll(http.StatusText(code), " ", ""))
}

// good reports whether an address was made here, and has not expired.
func (f *files) good(id string, q url.Values, now time.Time) bool {
	expires := q.Get("expires")
	if !hmac.Equal([]byte(q.Get("signature")), []byte(f.sign(id, expires))) {
		return false
	}
	if f.cfg.Expires == 0 {
		return expires == ""
	}
	until, err := strconv.ParseInt(expires, 10, 64)
	return err == nil && now.UnixMilli() < until
}

// A content is the bytes of a file, which follow from its seed.
type content struct {
	seed     uint64
	size, at int64
}

func (c *content) Read(p []byte) (n int, err error) {
	if c.at >= c.size {
		return 0, io.EOF
	}
	n = int(min(int64(len(p)), c.size-c.at))
	for i := range n {
		at := uint64(c.at) + uint64(i)
		p[i] = byte(mix(c.seed+at/8) >> (at % 8 * 8))
	}
	c.at += int64(n)
	return n, nil
}

func (c *content) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += c.at
	case io.SeekEnd:
		offset += c.size
	}
	if offset < 0 {
		return 0, errors.New("simserver: seek before the beginning")
	}
	c.at = offset
	return offset, nil
}

// A slowWriter writes at a rate, and can cut the connection.
type slowWriter struct {
	http.ResponseWriter
	rate       int64 // bytes a second; 0: any number
	left       int64 // bytes until the connection is cut; negative: it is not
	done, gone <-chan struct{}
}

func (w *slowWriter) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		part := p[:min(len(p), 16<<10)]
		if w.left >= 0 && int64(len(part)) > w.left {
			w.ResponseWriter.Write(part[:w.left])
			http.NewResponseController(w.ResponseWriter).Flush()
			resetConn(w.ResponseWriter)
			panic(http.ErrAbortHandler)
		}
		m, err := w.ResponseWriter.Write(part)
		n += m
		if err != nil {
			return n, err
		}
		if w.left >= 0 {
			w.left -= int64(m)
		}
		p = p[len(part):]
		if w.rate > 0 {
			http.NewResponseController(w.ResponseWriter).Flush()
			t := time.NewTimer(time.Duration(float64(m) / float64(w.rate) * float64(time.Second)))
			select {
			case <-t.C:
			case <-w.gone:
			case <-w.done:
			}
			t.Stop()
		}
	}
	return n, nil
}
