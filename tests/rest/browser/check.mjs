// Opens pages in Chromium and prints what is wrong with them, one fault a line.
// Usage: node check.mjs CHROMIUM URL...
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { chromium } from 'playwright-core'

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const [executablePath, ...urls] = process.argv.slice(2)
const widths = [360, 1280]
const schemes = ['light', 'dark']

// Every rule of axe, also those that are only good practice, with all that is folded shown.
async function violations(page) {
  await page.evaluate(() => { for (const each of document.querySelectorAll('details')) each.open = true })
  await page.evaluate(axe)
  const { violations } = await page.evaluate(() => window.axe.run())
  return violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes[0].html}`)
}

async function layout(page) {
  const { content, view } = await page.evaluate(() => (
    { content: document.documentElement.scrollWidth, view: document.documentElement.clientWidth }))
  return content > view ? [`is ${content} px wide in a window of ${view}`] : []
}

// The first stop of the keyboard is the link past the navigation, and each stop can be seen.
async function keyboard(page) {
  await page.keyboard.press('Tab')
  const first = await page.evaluate(() => document.activeElement.className)
  if (first !== 'skip') return [`the first stop of the keyboard is ${first}`]
  await page.keyboard.press('Enter')
  const target = await page.evaluate(() => document.activeElement.id)
  const faults = target === 'content' ? [] : [`the skip link leads to ${target}`]
  await page.focus('.skip')
  // After the last stop the keyboard leaves the page, and its body is the active element.
  while (await page.evaluate(() => document.activeElement !== document.body)) {
    const hidden = await page.evaluate(() => {
      const { left, right, width } = document.activeElement.getBoundingClientRect()
      const { outlineStyle } = getComputedStyle(document.activeElement)
      const isSeen = width > 0 && left >= 0 && right <= innerWidth && outlineStyle !== 'none'
      return isSeen ? null : document.activeElement.outerHTML.slice(0, 60)
    })
    if (hidden) faults.push(`a stop of the keyboard cannot be seen: ${hidden}`)
    await page.keyboard.press('Tab')
  }
  return faults
}

// On paper nothing is folded, and no line is cut.
async function print(page) {
  await page.emulateMedia({ media: 'print' })
  const cut = await page.evaluate(() => [...document.querySelectorAll('pre')]
    .filter((each) => !each.checkVisibility() || !each.clientHeight || each.scrollWidth > each.clientWidth)
    .map((each) => each.textContent.slice(0, 40)))
  await page.emulateMedia({ media: 'screen' })
  return cut.map((text) => `is not all printed: ${text}`)
}

const browser = await chromium.launch({ executablePath })
for (const url of urls) {
  for (const colorScheme of schemes) {
    for (const width of widths) {
      const page = await browser.newPage({ colorScheme, viewport: { width, height: 800 } })
      const faults = []
      // A refusal by the policy of the page is an error of the console.
      page.on('console', (message) => faults.push(`console: ${message.text()}`))
      page.on('requestfailed', (request) => faults.push(`request failed: ${request.url()}`))
      await page.goto(url)
      for (const check of [layout, keyboard, print, violations]) faults.push(...await check(page))
      for (const fault of faults) console.log(`${url} ${width} ${colorScheme}: ${fault}`)
      await page.close()
    }
  }
}
await browser.close()
