// Reads event streams by the EventSource of Chromium, and prints what a page sees of each.
// Usage: node events.mjs CHROMIUM ORIGIN COUNT:PATH...
// A page closes its stream after COUNT messages, or at a problem. For each path a line of JSON has the
// type, the id and the data of each event, and how often the connection was lost.
import { chromium } from 'playwright-core'

const [executablePath, origin, ...streams] = process.argv.slice(2)
const browser = await chromium.launch({ executablePath })
const page = await browser.newPage()
await page.route(`${origin}/`, (route) => route.fulfill({ contentType: 'text/html', body: '' }))
await page.goto(`${origin}/`)
for (const stream of streams) {
  const [, count, path] = stream.match(/^(\d+):(.*)$/)
  const seen = await page.evaluate(([count, path]) => new Promise((done) => {
    const events = [], source = new EventSource(path)
    let lost = 0
    const end = () => { source.close(); done({ events, lost }) }
    const note = ({ type, lastEventId, data }) => {
      events.push([type, lastEventId, data])
      if (type === 'problem' || events.length === count) end()
    }
    source.onmessage = note
    source.addEventListener('problem', note)
    source.onerror = () => {
      lost += 1
      if (source.readyState === EventSource.CLOSED) end()
    }
  }), [Number(count), path])
  console.log(JSON.stringify(seen))
}
await browser.close()
