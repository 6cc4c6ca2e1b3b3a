// Swagger UI has a dark style, for which its own page sets a class on the document.
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

const NDJSON = "application/x-ndjson";

// Swagger UI takes every media type with "json" in its name for one JSON document: it would send the lines of NDJSON as
// one quoted string, and say of the reply that it cannot be parsed.
const lines = () => ({
  afterLoad() {
    const sample = this.fn.getSampleSchema;
    this.fn.getSampleSchema = (schema, type, config, example) =>
      type === NDJSON && typeof example === "string" ? example : sample(schema, type, config, example);
  },
  wrapComponents: {
    responseBody: (Original, system) => (props) =>
      system.React.createElement(Original, {
        ...props,
        contentType: props.contentType?.startsWith(NDJSON) ? "text/plain" : props.contentType,
      }),
  },
});

// Controls that Swagger UI shows without a name for readers who hear the page.
const NAMES = {
  ".examples-select-element": () => "Examples",
  ".body-param__text": () => "Request body",
  ".copy-to-clipboard button": () => "Copy to clipboard",
  "[data-param-name] .parameters-col_description :is(input, select, textarea)": (control) =>
    control.closest("[data-param-name]").dataset.paramName,
};
const nameControls = () => {
  for (const [selector, name] of Object.entries(NAMES)) {
    for (const one of document.querySelectorAll(`:is(${selector}):not([aria-label])`)) one.ariaLabel = name(one);
  }
};
new MutationObserver(nameControls).observe(document.querySelector("#docs"), { childList: true, subtree: true });

SwaggerUIBundle({
  // Beside this file's folder, whatever prefix a proxy shows it under. Whole, because the link to the manual is read
  // relative to it.
  url: new URL("../openapi.json", document.currentScript.src).href,
  dom_id: "#docs",
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  persistAuthorization: true,
  plugins: [lines],
  tryItOutEnabled: true,
  validatorUrl: null,
});
