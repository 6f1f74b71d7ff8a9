// What the page says, in both languages.

const WORDS = {
  en: {
    skip: "To the content", key: "API key", tongue: "中文", tabSearch: "Search", tabShopper: "For a shopper",
    tabService: "Brands and replies", query: "What are you looking for?", filters: "Only", category: "Category",
    brand: "Brand", language: "Storefront", least: "from price", most: "to price", any: "any",
    compare: "Before and after synthesis, side by side", before: "Before: keyword search",
    after: "After: learnt from what the LLM wrote", fresh: "new", why: "Why is this here?", matched: "Words matched",
    none: "none", lexical: "By words (BM25)", semantic: "By meaning (cosine)", unused: "not asked", score: "Score",
    learnt: "The LLM thought shoppers would ask", similar: "Similar", similarTo: "Similar to", view: "View", buy: "Buy",
    found: "found", shopper: "Shopper", newcomer: "A new visitor", recommendedNow: "Recommended now",
    recommendedBefore: "Before the last click", lastClick: "Last click", basis: "Because of", nothing: "Nothing.",
    bases: { model: "the trained recommender", text: "likeness to what was taken", popularity: "what most take", typical: "what is typical of the shop" },
    brandsFor: "Brands for", ask: "Show brands", says: "A shopper writes to the shop", suggest: "Suggest replies",
    read: "A review or a search", judge: "Read it", products: "products", source: "from",
    sentiment: "Sentiment", intent: "Intent", brandsHint: "warm things for camping",
    saysHint: "Does the flask leak? (a line each, where there are more)", readHint: "It leaked on the first day.",
  },
  zh: {
    skip: "跳到内容", key: "API 密钥", tongue: "English", tabSearch: "搜索", tabShopper: "个性化推荐",
    tabService: "品牌与客服", query: "想找什么？", filters: "筛选", category: "类目",
    brand: "品牌", language: "店面语言", least: "最低价", most: "最高价", any: "不限",
    compare: "并排对比：合成数据之前与之后", before: "之前：关键词搜索",
    after: "之后：学习了大模型合成的数据", fresh: "新", why: "为什么推荐这个？", matched: "匹配的词",
    none: "无", lexical: "词面得分（BM25）", semantic: "语义相似度（余弦）", unused: "未使用", score: "总分",
    learnt: "大模型认为顾客会这样搜", similar: "相似商品", similarTo: "相似于", view: "浏览", buy: "购买",
    found: "个结果", shopper: "顾客", newcomer: "新访客", recommendedNow: "现在的推荐",
    recommendedBefore: "上次点击之前", lastClick: "上次点击", basis: "依据", nothing: "没有结果。",
    bases: { model: "训练好的推荐模型", text: "与已看商品相似", popularity: "大家都在买", typical: "店铺代表商品" },
    brandsFor: "按需求找品牌", ask: "推荐品牌", says: "顾客发来的消息", suggest: "推荐回复",
    read: "一条评论或搜索", judge: "分析", products: "件商品", source: "来自",
    sentiment: "情感", intent: "意图", brandsHint: "露营保暖用品",
    saysHint: "这个保温杯会漏水吗？（多轮对话每行一句）", readHint: "用了一天就漏水。",
  },
};

let tongue = localStorage.getItem("tongue") ?? (navigator.language.startsWith("zh") ? "zh" : "en");

export const say = (name) => WORDS[tongue][name];

export function paint() {
  document.documentElement.lang = tongue;
  for (const one of document.querySelectorAll("[data-say]")) one.textContent = say(one.dataset.say);
  for (const one of document.querySelectorAll("[data-hint]")) one.placeholder = say(one.dataset.hint);
  document.getElementById("tongue").textContent = say("tongue");
}

export function turn() {
  tongue = tongue === "en" ? "zh" : "en";
  localStorage.setItem("tongue", tongue);
  paint();
}
