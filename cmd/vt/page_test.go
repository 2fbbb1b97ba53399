package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

// story fills a timeline with n jobs that were over in ten seconds, with each kind of mark.
// Job k takes 3 s and k ms; its end is noticed 0.5 s late.
func story(n int) *timeline {
	page := &timeline{worth: 2}
	start := time.Now().Add(-10 * time.Second)
	for k := range n {
		id, began := fmt.Sprintf("job-%d", k+1), start.Add(time.Duration(k)*5*time.Second/time.Duration(n))
		end := began.Add(3*time.Second + time.Duration(k)*time.Millisecond)
		page.job(id, began)
		page.end(id, end, true, k%10 == 3)
		for i, mark := range []string{markPending, markFault, markLimited, markPending} {
			page.mark(id, began.Add(time.Duration(i+1)*700*time.Millisecond), mark)
		}
		page.mark(id, end.Add(200*time.Millisecond), [...]string{markArrived, markLost, markRejected}[k%3])
		page.mark(id, end.Add(500*time.Millisecond), markEnded)
	}
	return page
}

// pageServer serves a page until the test ends and returns its URL.
func pageServer(t *testing.T, page *timeline) string {
	at, err := listen(t.Context(), "127.0.0.1:0", page)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(at.stop)
	return at.url + "/"
}

func TestPageShowsJobsRequestsAndTotals(t *testing.T) {
	b := startBrowser(t)
	for _, tt := range []struct {
		name          string
		jobs          int
		width, height int
		dark, phone   bool
	}{
		{"4 jobs", 4, 1000, 560, false, false},
		{"100 jobs, dark", 100, 1200, 800, true, false},
		{"1000 jobs", 1000, 1200, 800, false, false},
		{"1000 jobs on a phone, dark", 1000, 390, 844, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b.t = t
			defer func() { b.t = nil }()
			b.open(pageServer(t, story(tt.jobs)), tt.width, tt.height, tt.dark, tt.phone)
			b.until(fmt.Sprintf(`document.querySelectorAll("#jobs li").length === %d && document.querySelector("#jobs .ended")`, tt.jobs))
			for what, want := range map[string]any{
				`$("over").textContent`:                                 fmt.Sprintf("%d of %[1]d", tt.jobs),
				`$("requests").textContent`:                             fmt.Sprint(5 * tt.jobs),
				`$("each").textContent`:                                 "5.00",
				`$("late").textContent`:                                 "0.50 s",
				`$("cost").textContent`:                                 "10.5 s", // at a request's worth of 2 s
				`document.documentElement.scrollWidth <= innerWidth`:    true,     // nothing sticks out
				`getComputedStyle(document.body).backgroundColor`:       map[bool]string{false: "rgb(255, 255, 255)", true: "rgb(13, 17, 23)"}[tt.dark],
				`document.querySelectorAll("#jobs svg rect").length<99`: tt.jobs <= 1000, // only rows in view are drawn
				`[...document.querySelectorAll("#jobs li svg")].some(e => e.querySelector(".pending") && e.querySelector(".fault") && e.querySelector(".limited") && e.querySelector(".late") && e.querySelector(".tick"))`: true,
				`["arrived","lost","refused"].every(c => document.querySelector("#jobs ."+c))`: true,
				`document.querySelectorAll("#jobs .failed").length > 0`:                        true,
			} {
				if got := b.eval(what); got != want {
					t.Errorf("%s is %v, want %v", what, got, want)
				}
			}
			b.eval(`$("worth").value = 0.1; $("worth").dispatchEvent(new Event("input"))`)
			if got := b.eval(`$("cost").textContent`); got != "1.00 s" {
				t.Errorf("at a worth of 0.1 s the cost is %v, want 1.00 s", got)
			}
			b.screenshot("page-" + strings.NewReplacer(" ", "-", ",", "").Replace(tt.name))
		})
	}
}

// What a click shows, the keys and a screen reader reach.
func TestPageByKeyboardAndScreenReader(t *testing.T) {
	b := startBrowser(t)
	b.open(pageServer(t, story(100)), 1000, 700, false, false)
	b.until(`document.querySelectorAll("#jobs li").length === 100 && document.querySelector("#jobs .ended")`)
	for range 2 { // the worth, and then the list
		b.key("Tab")
	}
	for _, step := range []struct{ key, want string }{
		{"ArrowDown", "job-2"}, {"ArrowDown", "job-3"}, {"ArrowUp", "job-2"}, {"End", "job-100"}, {"Home", "job-1"},
	} {
		b.key(step.key)
		if got := b.eval(`document.activeElement.job?.id + " " + selected?.id + " " + document.activeElement.ariaSelected`); got != step.want+" "+step.want+" true" {
			t.Errorf("after %s: %v, want %s selected", step.key, got, step.want)
		}
	}
	byKey := b.eval(`$("details").innerText`)
	for _, part := range []string{"job-1: completed, 5 requests, noticed 0.50 s late", "0.70 s: pending", "1.40 s: fault", "2.10 s: 429", "3.00 s: the job ends", "webhook arrived", "3.50 s: over"} {
		if !strings.Contains(fmt.Sprint(byKey), part) {
			t.Errorf("the selected job's text lacks %q: %v", part, byKey)
		}
	}
	b.screenshot("page-details")
	b.key("Escape")
	if got := b.eval(`$("details").hidden`); got != true {
		t.Error("Escape leaves the details open")
	}
	b.eval(`document.querySelector("#jobs li").click()`)
	if byClick := b.eval(`$("details").innerText`); byClick != byKey {
		t.Errorf("by a click: %v\nby keys: %v", byClick, byKey)
	}

	var tree struct {
		Nodes []struct {
			Role, Name struct{ Value any }
		}
	}
	b.call("Accessibility.getFullAXTree", nil, &tree)
	options := map[any]bool{}
	roles := map[any]int{}
	for _, n := range tree.Nodes {
		roles[n.Role.Value]++
		if n.Role.Value == "option" {
			options[n.Name.Value] = true
		}
	}
	if roles["option"] != 100 || !options["job-4: failed, 5 requests, noticed 0.50 s late"] {
		t.Errorf("a screen reader finds %d jobs: %v", roles["option"], options)
	}
	for _, role := range []string{"listbox", "status", "spinbutton", "heading"} {
		if roles[role] == 0 {
			t.Errorf("a screen reader finds no %s", role)
		}
	}
}

// The page of vt serve follows a client live, through a fault, to the end of its job, and
// shows a hostile id as text.
func TestPageOfServeIsLive(t *testing.T) {
	b := startBrowser(t)
	server, url := serve(t, "-addr", "127.0.0.1:0", "-auto-create", "-duration", "1s", "-fault", "503:1,limit=1")
	b.open(url+"/", 1000, 560, false, false)
	b.until(`$("state").textContent === "live" && !$("empty").hidden`)
	client := start(t, "vt wait", "wait", "-url", url, "-every", "300ms", "<img src=x onerror=alert(1)>")
	client.wantExit(exitOK, "1 completed")
	b.until(`$("over").textContent === "1 of 1"`)
	for what, want := range map[string]any{
		`jobs.size`: 1.0,
		`[...jobs.values()][0].marks.map(m => m.mark)[0]`:                       "fault",
		`[...jobs.values()][0].marks.map(m => m.mark).at(-1)`:                   "ended",
		`document.querySelectorAll("img").length`:                               0.0,
		`document.querySelector("#jobs .name").textContent`:                     "<img src=x onerror=alert(1)>",
		`Number($("requests").textContent) === [...jobs.values()][0].requests`:  true,
		`[...jobs.values()][0].seen > [...jobs.values()][0].end`:                true,
		`document.querySelectorAll("script[src], link[rel=stylesheet]").length`: 0.0,
	} {
		if got := b.eval(what); got != want {
			t.Errorf("%s is %v, want %v", what, got, want)
		}
	}
	server.signal(os.Interrupt)
	b.until(`$("state").textContent.startsWith("not connected")`)
}

// The page of vt wait shows the client's own view.
func TestPageOfWait(t *testing.T) {
	b := startBrowser(t)
	_, url := serve(t, "-addr", "127.0.0.1:0", "-auto-create", "-duration", "1s")
	stdin, held, err := os.Pipe() // the wait goes on while more jobs may come
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	defer stdin.Close()
	client := startWith(t, "vt wait", stdin, nil, "wait", "-url", url, "-every", "400ms", "-page", "127.0.0.1:0", "film", "-")
	page := client.until("a page with the jobs and requests: ")
	b.open(page[strings.Index(page, "http"):], 1000, 560, false, false)
	b.until(`$("over").textContent === "1 of 1"`)
	if got := b.eval(`[...jobs.values()][0].marks.map(m => m.mark).join(" ")`); !strings.HasPrefix(fmt.Sprint(got), "pending ") || !strings.HasSuffix(fmt.Sprint(got), " ended") {
		t.Errorf("marks: %v", got)
	}
	if got := b.eval(`$("late").textContent`); !strings.HasPrefix(fmt.Sprint(got), "≤ ") {
		t.Errorf("lateness %v, want an upper bound", got)
	}
}

func TestTimelineDropsTheOldestQuarter(t *testing.T) {
	page := &timeline{}
	for i := range maxEvents + 10 {
		page.mark(fmt.Sprint(i), time.Unix(0, 0), markPending)
	}
	b, n := page.after(0)
	if n != maxEvents+10 || len(b.Events) != maxEvents*3/4+10 || !b.First {
		t.Errorf("%d events of %d", len(b.Events), n)
	}
	if b, _ = page.after(n - 1); len(b.Events) != 1 || b.First || !strings.Contains(string(b.Events[0]), fmt.Sprint(maxEvents+9)) {
		t.Errorf("the last event is %s", b.Events)
	}
	if b, _ = page.after(5); len(b.Events) != maxEvents*3/4+10 {
		t.Errorf("from events that are gone: %d", len(b.Events))
	}
}

func TestPageAnswers(t *testing.T) {
	page := &timeline{}
	for _, tt := range []struct {
		method, path string
		code         int
	}{
		{"GET", "/", 200}, {"HEAD", "/", 200}, {"GET", "/favicon.ico", 404}, {"POST", "/", 405}, {"POST", "/events", 405},
	} {
		w := httptest.NewRecorder()
		page.ServeHTTP(w, httptest.NewRequest(tt.method, tt.path, nil))
		if w.Code != tt.code {
			t.Errorf("%s %s: %d, want %d", tt.method, tt.path, w.Code, tt.code)
		}
		if policy := w.Header().Get("Content-Security-Policy"); tt.code == http.StatusOK && !strings.Contains(policy, "default-src 'none'") {
			t.Errorf("%s %s: policy %q", tt.method, tt.path, policy)
		}
	}
}
