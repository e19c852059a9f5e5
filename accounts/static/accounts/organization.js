// Names the organization that the page was made for in each of its requests. A file, not an inline
// script: DRF replaces the page by a form's response, whose nonce the page's policy does not accept.
(function () {
  const organization = document.currentScript.dataset.organization;
  $(document).ajaxSend(function (event, xhr) {
    xhr.setRequestHeader("X-Organization", organization);
  });
})();
