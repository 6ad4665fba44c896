// Guides, tutorials and explanations come before the reference and the pages for those who change xpjax.
var Scorer = {
  score: function (result) {
    var page = result[0], score = result[4];
    if (/^(reference|architecture|changelog)/.test(page)) return score - 40;
    if (/^(tutorials|gallery|glossary)/.test(page)) return score - 8;
    return score;
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 5, 1: 2, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
