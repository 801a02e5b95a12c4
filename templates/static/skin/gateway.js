// The pages work without this. With it, a page that came back with problems reads them out first.
document.querySelector(".govuk-error-summary")?.focus();
